// An independent program that uses a file while it is being defragmented, and knows at every moment what the file
// must contain: it keeps a model in memory and compares.
//
//   writer MODE FILE SEED MILLISECONDS
//
// MODE is overwrite, append, truncate, mapped, recreate, direct, mixed: see the table at the end. It prints the
// number of operations and exits 0, or prints the first difference and exits 1.
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum { BLOCK = 4096, MOST = 96 << 20 };

static const char *path;
static int fd;
static unsigned char *model;
static size_t size;
static uint64_t state;

static void fail(const char *what) {
  printf("%s: %s\n", what, strerror(errno));
  exit(1);
}

static uint64_t next(void) {  // xorshift64*
  state ^= state >> 12;
  state ^= state << 25;
  state ^= state >> 27;
  return state * 2685821657736338717ULL;
}

static size_t below(size_t limit) { return limit == 0 ? 0 : next() % limit; }

static void fill(unsigned char *to, size_t count) {
  for (size_t i = 0; i < count; i++) to[i] = (unsigned char)(next() >> 32);
}

static void put(size_t offset, size_t count) {
  fill(model + offset, count);
  if (pwrite(fd, model + offset, count, (off_t)offset) != (ssize_t)count) fail("pwrite");
  if (offset + count > size) size = offset + count;
}

static void compare(const unsigned char *got, size_t offset, size_t count, const char *how) {
  for (size_t i = 0; i < count; i++) {
    if (got[i] == model[offset + i]) continue;
    printf("%s: byte %zu of %zu is %02x and should be %02x\n", how, offset + i, size, got[i], model[offset + i]);
    exit(1);
  }
}

static void check(void) {
  struct stat info;
  if (fstat(fd, &info)) fail("fstat");
  if ((size_t)info.st_size != size) {
    printf("size is %lld and should be %zu\n", (long long)info.st_size, size);
    exit(1);
  }
  static unsigned char buffer[1 << 20];
  for (size_t at = 0; at < size;) {
    const ssize_t count = pread(fd, buffer, sizeof buffer, (off_t)at);
    if (count <= 0) fail("pread");
    compare(buffer, at, (size_t)count, "read");
    at += (size_t)count;
  }
}

static void overwrite(void) {
  const size_t offset = below(size), count = 1 + below(3 * BLOCK);
  put(offset, offset + count > size ? size - offset : count);
  if (below(64) == 0 && fdatasync(fd)) fail("fdatasync");
}

// Small writes behind the end: their allocation stays delayed for seconds.
static void append(void) {
  if (size + 5 * BLOCK > MOST) {
    if (ftruncate(fd, (off_t)(size / 2))) fail("ftruncate");
    memset(model + size / 2, 0, MOST - size / 2);
    size /= 2;
  }
  put(size, 1 + below(4 * BLOCK));
}

static void truncate_(void) {
  const size_t to = below(2) ? size - below(size) / 4 : size + below(1 << 20);
  const size_t end = to > MOST ? MOST : to;
  if (ftruncate(fd, (off_t)end)) fail("ftruncate");
  if (end < size) memset(model + end, 0, size - end);
  size = end;
  if (size > 0) overwrite();
}

static void mapped(void) {
  const size_t pages = size / BLOCK;
  if (pages == 0) return;
  static unsigned char *map;
  static size_t mapped_size;
  if (mapped_size != size) {
    if (map) munmap(map, mapped_size);
    map = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (map == MAP_FAILED) fail("mmap");
    mapped_size = size;
  }
  const size_t offset = below(pages) * BLOCK, count = 1 + below(BLOCK);
  compare(map + offset, offset, count, "mapped read");
  fill(model + offset, count);
  memcpy(map + offset, model + offset, count);
  if (below(256) == 0 && msync(map, size, MS_SYNC)) fail("msync");
}

static void recreate(void) {
  check();
  if (close(fd) || unlink(path)) fail("unlink");
  fd = open(path, O_RDWR | O_CREAT | O_EXCL, 0644);
  if (fd < 0) fail("open");
  memset(model, 0, size);
  size = 0;
  // Every other block first, so that there is something to do.
  const size_t count = 64 + below(512);
  for (int odd = 0; odd < 2; odd++) {
    for (size_t block = (size_t)odd; block < count; block += 2) put(block * BLOCK, BLOCK);
    if (fdatasync(fd)) fail("fdatasync");
  }
  // Some files live long enough to be moved, others vanish while they are.
  if (below(2)) usleep((useconds_t)below(800000));
}

static void direct(void) {
  static int direct_fd = -1;
  static unsigned char *buffer;
  if (direct_fd < 0) {
    direct_fd = open(path, O_RDWR | O_DIRECT);
    if (direct_fd < 0 || posix_memalign((void **)&buffer, BLOCK, 64 * BLOCK)) fail("open O_DIRECT");
  }
  const size_t offset = below(size / BLOCK) * BLOCK;
  size_t count = (1 + below(63)) * BLOCK;
  if (offset + count > size) count = size / BLOCK * BLOCK - offset;
  if (below(4) == 0) {
    fill(model + offset, count);
    memcpy(buffer, model + offset, count);
    if (pwrite(direct_fd, buffer, count, (off_t)offset) != (ssize_t)count) fail("pwrite O_DIRECT");
  } else {
    if (pread(direct_fd, buffer, count, (off_t)offset) != (ssize_t)count) fail("pread O_DIRECT");
    compare(buffer, offset, count, "read O_DIRECT");
  }
}

static void mixed(void) {
  switch (below(4)) {
    case 0: append(); break;
    case 1: truncate_(); break;
    default: overwrite();
  }
}

static const struct {
  const char *name;
  void (*step)(void);
} modes[] = {
    {"overwrite", overwrite}, {"append", append},     {"truncate", truncate_}, {"mapped", mapped},
    {"recreate", recreate},   {"direct", direct},     {"mixed", mixed},
};

int main(int argc, char **argv) {
  if (argc != 5) return 2;
  path = argv[2];
  state = strtoull(argv[3], NULL, 10) * 2 + 1;
  const long duration = strtol(argv[4], NULL, 10);
  void (*step)(void) = NULL;
  for (size_t i = 0; i < sizeof modes / sizeof *modes; i++) {
    if (!strcmp(argv[1], modes[i].name)) step = modes[i].step;
  }
  if (!step) return 2;
  model = calloc(1, MOST);
  fd = open(path, O_RDWR);
  struct stat info;
  if (!model || fd < 0 || fstat(fd, &info)) fail("open");
  size = (size_t)info.st_size;
  if (pread(fd, model, size, 0) != (ssize_t)size) fail("pread");
  struct timespec begin, now;
  clock_gettime(CLOCK_MONOTONIC, &begin);
  long operations = 0;
  do {
    step();
    operations++;
    clock_gettime(CLOCK_MONOTONIC, &now);
  } while ((now.tv_sec - begin.tv_sec) * 1000 + (now.tv_nsec - begin.tv_nsec) / 1000000 < duration);
  check();
  printf("%ld operations\n", operations);
  return 0;
}
