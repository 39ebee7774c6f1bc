// Carries out a log of operations on one file, and answers what came of each. What must come of it, who asks knows.
//
//   operate FILE [FAULT] < LOG
//
// An operation is a line, such as "write 4096 100 7": see the table at the end. The answer is a line
// "RESULT SIZE\n" with the count of bytes, 0 or -errno, and the size of the file afterwards; behind that of a read stand
// RESULT bytes. FAULT makes it do something wrong, to see whether it is noticed: "write", each write to a place behind
// the first 64 KiB changes one byte too many; "after-collapse", so does each write once something has been collapsed.
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

enum { MOST = 16 << 20, PAGE = 4096 };

static const char *path, *fault = "";
static int fd, direct_fd;
static unsigned char *buffer;  // aligned for O_DIRECT
static unsigned char *map;
static size_t map_size;
static int collapsed;
// Of the operation: what its line says behind its name.
static off_t offset, length, third;

static long long size(void) {
  struct stat info;
  return fstat(fd, &info) ? -errno : (long long)info.st_size;
}

static int open_file(void) {
  fd = open(path, O_RDWR | O_CREAT, 0644);
  direct_fd = fd < 0 ? -1 : open(path, O_RDWR | O_DIRECT);
  return fd < 0 || direct_fd < 0 ? -errno : 0;
}

// What a write writes depends on its tag and nothing else: the same words as those of test/torture/model/content.ts.
static uint32_t word(uint32_t tag, uint32_t index) {
  uint32_t mixed = tag * 0x9e3779b1u + index;
  mixed = (mixed ^ (mixed >> 16)) * 0x85ebca6bu;
  mixed = (mixed ^ (mixed >> 13)) * 0xc2b2ae35u;
  return mixed ^ (mixed >> 16);
}

static void fill(void) {
  for (off_t at = 0; at < length; at += 4) {
    const uint32_t next = word((uint32_t)third, (uint32_t)(at / 4));
    memcpy(buffer + at, &next, 4);
  }
  const int wrong = (!strcmp(fault, "write") && offset >= 65536) || (!strcmp(fault, "after-collapse") && collapsed);
  if (wrong) buffer[length / 2] ^= 1;
}

// The whole file, mapped anew only when its size has changed: so pages stay mapped while other operations go on.
static int map_file(void) {
  const size_t wanted = (size_t)size();
  if (map && map_size == wanted) return 0;
  if (map) munmap(map, map_size);
  map = mmap(NULL, wanted, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  if (map == MAP_FAILED) return map = NULL, -errno;
  map_size = wanted;
  return 0;
}

static long long counted(ssize_t count) { return count < 0 ? -errno : count; }
static long long done(int result) { return result < 0 ? -errno : 0; }

static long long read_buffered(void) { return counted(pread(fd, buffer, (size_t)length, offset)); }
static long long read_direct(void) { return counted(pread(direct_fd, buffer, (size_t)length, offset)); }

static long long read_mapped(void) {
  const int failed = map_file();
  if (failed) return failed;
  memcpy(buffer, map + offset, (size_t)length);
  return length;
}

static long long write_buffered(void) {
  fill();
  return counted(pwrite(fd, buffer, (size_t)length, offset));
}

static long long write_direct(void) {
  fill();
  return counted(pwrite(direct_fd, buffer, (size_t)length, offset));
}

static long long write_mapped(void) {
  const int failed = map_file();
  if (failed) return failed;
  fill();
  memcpy(map + offset, buffer, (size_t)length);
  return length;
}

static long long resize(void) { return done(ftruncate(fd, offset)); }
static long long allocate(void) { return done(fallocate(fd, 0, offset, length)); }
static long long allocate_keep(void) { return done(fallocate(fd, FALLOC_FL_KEEP_SIZE, offset, length)); }
static long long zero(void) { return done(fallocate(fd, FALLOC_FL_ZERO_RANGE, offset, length)); }
static long long insert(void) { return done(fallocate(fd, FALLOC_FL_INSERT_RANGE, offset, length)); }

static long long zero_keep(void) {
  return done(fallocate(fd, FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE, offset, length));
}

static long long punch(void) {
  return done(fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, offset, length));
}

static long long collapse(void) {
  collapsed = 1;
  return done(fallocate(fd, FALLOC_FL_COLLAPSE_RANGE, offset, length));
}

static long long copy(void) {
  off_t from = offset, to = third, copied = 0;
  while (copied < length) {
    const ssize_t count = copy_file_range(fd, &from, fd, &to, (size_t)(length - copied), 0);
    if (count < 0) return -errno;
    if (count == 0) break;
    copied += count;
  }
  return copied;
}

static long long sync_all(void) { return done(fsync(fd)); }
static long long sync_data(void) { return done(fdatasync(fd)); }
static long long sync_mapped(void) { return map ? done(msync(map, map_size, MS_SYNC)) : 0; }

// So that the next read comes from the device. What is mapped stays.
static long long drop(void) {
  if (fdatasync(fd)) return -errno;
  return -posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
}

static long long reopen(void) {
  if (map) munmap(map, map_size);
  map = NULL;
  if (close(fd) || close(direct_fd)) return -errno;
  return open_file();
}

static const struct {
  const char *name;
  long long (*act)(void);
  int reads;
} operations[] = {
    {"read", read_buffered, 1},  // OFFSET LENGTH
    {"direct-read", read_direct, 1},
    {"mapped-read", read_mapped, 1},
    {"write", write_buffered, 0},  // OFFSET LENGTH TAG
    {"direct-write", write_direct, 0},
    {"mapped-write", write_mapped, 0},
    {"truncate", resize, 0},     // SIZE
    {"allocate", allocate, 0},   // OFFSET LENGTH
    {"allocate-keep", allocate_keep, 0},
    {"punch", punch, 0},
    {"zero", zero, 0},
    {"zero-keep", zero_keep, 0},
    {"collapse", collapse, 0},
    {"insert", insert, 0},
    {"copy", copy, 0},  // OFFSET LENGTH TO
    {"fsync", sync_all, 0},
    {"fdatasync", sync_data, 0},
    {"msync", sync_mapped, 0},
    {"drop", drop, 0},
    {"reopen", reopen, 0},
};

static int operate(const char *name) {
  for (size_t i = 0; i < sizeof operations / sizeof *operations; i++) {
    if (strcmp(operations[i].name, name)) continue;
    const long long result = operations[i].act();
    printf("%lld %lld\n", result, size());
    if (operations[i].reads && result > 0) fwrite(buffer, 1, (size_t)result, stdout);
    return 0;
  }
  fprintf(stderr, "operate: there is no operation %s\n", name);
  return 2;
}

int main(int argc, char **argv) {
  if (argc < 2 || argc > 3) return 2;
  path = argv[1];
  if (argc == 3) fault = argv[2];
  if (posix_memalign((void **)&buffer, PAGE, MOST + PAGE)) return perror("posix_memalign"), 1;
  if (open_file()) return perror(path), 1;
  char line[128], name[32];
  while (fgets(line, sizeof line, stdin)) {
    long long words[3] = {0, 0, 0};
    if (sscanf(line, "%31s %lld %lld %lld", name, &words[0], &words[1], &words[2]) < 1) return 2;
    offset = words[0], length = words[1], third = words[2];
    if (length > MOST) return 2;
    const int failed = operate(name);
    if (failed) return failed;
  }
  return fflush(stdout) ? 1 : 0;
}
