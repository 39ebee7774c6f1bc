// Applications that sync what they write, and what must be left of that after a power cut.
//
//   records make FOLDER BLOCK              makes the files
//   records write FOLDER BLOCK DEVICE AT HELD WRITERS   writes and syncs records until SIGTERM
//   records verify FOLDER BLOCK TABLE      looks at every block of every file
//
// A record is a block of BLOCK bytes. It consists of units of 16 bytes, each of which says which file and which slot
// of it this is, and how often the slot has been written: so a block of another file shows, and so does one that is
// older than what was acknowledged. A block that was being written when the power went may be of two ages.
//
// Four files are overwritten in place, each synced in another way, and one grows; HELD is 1 for writers that keep their
// files open, 0 for those that open them for each record; WRITERS has a bit for each of the five that shall write: those of
// fsync, fdatasync, O_DSYNC, msync, and the file that grows. fdatasync and O_DSYNC alone commit nothing. When a sync has returned, the record is acknowledged: a sector
// that names it is written to DEVICE, past its filesystem, from the byte AT on. TABLE has, for each file and slot, the
// age of the youngest record that was acknowledged: little-endian, 32 bits each.
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

enum { WRITTEN = 5, STILL = 20, FILES = WRITTEN + STILL, HOT = 1024, SLOTS = 65536, SECTOR = 512, SECTORS = 4096 };
enum { APPENDED = 4 };

static const char *folder;
static size_t block;
static int held, writers, marks;
static off_t marks_at;
static atomic_uint marked;
static volatile sig_atomic_t stopped;

struct unit {
  uint32_t file, slot, age, check;
};

static void fail(const char *what, uint32_t file) {
  fprintf(stderr, "records: %s of file %u: %s\n", what, file, strerror(errno));
  exit(1);
}

static uint32_t check_of(const struct unit *unit, uint32_t index) {
  uint64_t sum = unit->file * 0x9e3779b97f4a7c15ULL + unit->slot;
  sum = (sum ^ (sum >> 29)) * 0xbf58476d1ce4e5b9ULL + unit->age;
  sum = (sum ^ (sum >> 32)) * 0x94d049bb133111ebULL + index;
  return (uint32_t)(sum ^ (sum >> 31));
}

static void fill(void *to, uint32_t file, uint32_t slot, uint32_t age) {
  struct unit *units = to;
  for (uint32_t i = 0; i < block / sizeof *units; i++) {
    units[i] = (struct unit){file, slot, age, 0};
    units[i].check = check_of(&units[i], i);
  }
}

static int open_file(uint32_t file, int flags) {
  char path[4096];
  snprintf(path, sizeof path, "%s/file%u", folder, file);
  const int fd = open(path, flags, 0644);
  if (fd < 0) fail("open", file);
  return fd;
}

static uint32_t slots_at_first(uint32_t file) {
  return file == APPENDED ? 0 : file < WRITTEN ? HOT : (1 << 20) / (uint32_t)block;
}

static int make(void) {
  char data[65536];
  for (uint32_t file = 0; file < FILES; file++) {
    const int fd = open_file(file, O_WRONLY | O_CREAT | O_EXCL);
    for (uint32_t slot = 0; slot < slots_at_first(file); slot++) {
      fill(data, file, slot, 0);
      if (write(fd, data, block) != (ssize_t)block) fail("write", file);
    }
    if (fsync(fd) || close(fd)) fail("fsync", file);
  }
  return 0;
}

static void stop(int signal) {
  (void)signal;
  stopped = 1;
}

static void acknowledge(uint32_t file, uint32_t slot, uint32_t age) {
  static _Thread_local unsigned char *sector;
  if (!sector && posix_memalign((void **)&sector, 4096, SECTOR)) fail("memory", file);
  const uint32_t number = atomic_fetch_add(&marked, 1);
  const uint32_t mark[] = {0x4b434140, file, slot, age, number};
  memset(sector, 0, SECTOR);
  memcpy(sector, mark, sizeof mark);
  if (pwrite(marks, sector, SECTOR, marks_at + (off_t)(number % SECTORS) * SECTOR) != SECTOR) fail("mark", file);
}

static void *write_records(void *argument) {
  const uint32_t file = (uint32_t)(uintptr_t)argument;
  const int flags = O_RDWR | (file == 2 ? O_DSYNC : 0) | (file == APPENDED ? O_CREAT : 0);
  uint32_t *ages = calloc(SLOTS, sizeof *ages), end = 0;
  char *data = malloc(block), *map = NULL;
  uint64_t state = file + 1;
  if (!ages || !data) fail("memory", file);
  for (int fd = -1; !stopped;) {
    if (fd < 0) {
      fd = open_file(file, flags);
      map = file == 3 ? mmap(NULL, HOT * block, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0) : NULL;
      if (map == MAP_FAILED) fail("mmap", file);
    }
    state = state * 6364136223846793005ULL + 1442695040888963407ULL;
    const uint32_t slot = file == APPENDED ? end++ : (uint32_t)(state >> 33) % HOT;
    if (slot >= SLOTS) break;
    fill(data, file, slot, ++ages[slot]);
    if (map) memcpy(map + slot * block, data, block);
    else if (pwrite(fd, data, block, (off_t)(slot * block)) != (ssize_t)block) fail("pwrite", file);
    if (map && msync(map + slot * block / 4096 * 4096, block, MS_SYNC)) fail("msync", file);
    if ((file == 0 || file == APPENDED) && fsync(fd)) fail("fsync", file);
    if (file == 1 && fdatasync(fd)) fail("fdatasync", file);
    acknowledge(file, slot, ages[slot]);
    // The processor is for the mover as well.
    usleep(held ? 5000 : 20000);
    if (held) continue;
    if (map && munmap(map, HOT * block)) fail("munmap", file);
    if (close(fd)) fail("close", file);
    fd = -1;
  }
  return NULL;
}

static int write_all(const char *device) {
  pthread_t threads[WRITTEN];
  signal(SIGTERM, stop);
  marks = open(device, O_WRONLY | O_DIRECT);
  if (marks < 0) return perror(device), 1;
  for (uintptr_t file = 0; file < WRITTEN; file++) {
    if (writers & 1 << file) pthread_create(&threads[file], NULL, write_records, (void *)file);
  }
  for (int file = 0; file < WRITTEN; file++) {
    if (writers & 1 << file) pthread_join(threads[file], NULL);
  }
  printf("%u records\n", marked);
  return 0;
}

static int complain(uint32_t file, uint32_t slot, uint32_t wanted, const struct unit *got, const char *what) {
  printf("file %u, slot %u: %s; age %u was acknowledged, and there is file %u, slot %u, age %u\n", file, slot, what,
         wanted, got->file, got->slot, got->age);
  return 1;
}

static int verify_block(const void *data, uint32_t file, uint32_t slot, uint32_t wanted) {
  static const char zeros[65536];
  const struct unit *units = data;
  // What was allocated and not written yet reads as zeros: only what grows is in that state.
  if (file == APPENDED && wanted == 0 && !memcmp(data, zeros, block)) return 0;
  for (uint32_t i = 0; i < block / sizeof *units; i++) {
    const struct unit *unit = &units[i];
    if (unit->check != check_of(unit, i)) return complain(file, slot, wanted, unit, "not a record");
    if (unit->file != file || unit->slot != slot) return complain(file, slot, wanted, unit, "another record");
    if (unit->age < wanted) return complain(file, slot, wanted, unit, "lost");
  }
  return 0;
}

static int verify(const char *path) {
  uint32_t *table = malloc(sizeof *table * FILES * SLOTS);
  const int table_fd = open(path, O_RDONLY);
  const ssize_t size = sizeof *table * FILES * SLOTS;
  if (!table || table_fd < 0 || read(table_fd, table, (size_t)size) != size) return perror(path), 2;
  char *data = malloc(block);
  int bad = 0;
  for (uint32_t file = 0; file < FILES; file++) {
    const int fd = open_file(file, O_RDONLY);
    for (uint32_t slot = 0; slot < SLOTS; slot++) {
      const uint32_t wanted = table[file * SLOTS + slot];
      const ssize_t count = pread(fd, data, block, (off_t)(slot * block));
      if (count < 0) fail("pread", file);
      if (count == (ssize_t)block) bad += verify_block(data, file, slot, wanted);
      else if (wanted > 0 || slot < slots_at_first(file)) {
        printf("file %u, slot %u: behind the end of the file; age %u was acknowledged\n", file, slot, wanted);
        bad++;
      } else break;
    }
    close(fd);
  }
  printf("%d bad\n", bad);
  return bad > 0;
}

int main(int argc, char **argv) {
  if (argc < 4) return 2;
  folder = argv[2];
  block = strtoul(argv[3], NULL, 10);
  if (block < sizeof(struct unit) || block > 65536) return 2;
  if (!strcmp(argv[1], "make")) return make();
  if (!strcmp(argv[1], "verify") && argc == 5) return verify(argv[4]);
  if (strcmp(argv[1], "write") || argc != 8) return 2;
  marks_at = strtoll(argv[5], NULL, 10);
  held = atoi(argv[6]);
  writers = atoi(argv[7]);
  return write_all(argv[4]);
}
