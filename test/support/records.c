// An application that keeps records, syncs them, and notes what has been synced where a power cut cannot touch it: in
// the same device, behind the filesystem, so that the device's write log tells what was acknowledged before what.
//
//   records DEVICE OFFSET SEED FOLDER NAME...
//
// Every NAME is METHOD-FILE: an existing file of records that a process of its own overwrites by METHOD (fdatasync,
// fsync, dsync, direct, msync), or "churn-FILE", a process that makes and removes files of that number and the next
// ones. Ends at SIGTERM. OFFSET is where the notes begin on DEVICE, a sector for each of 64 processes.
//
//   record   1024 bytes: "RECO", file u32, slot u32, sequence number u32, filling, CRC-32 of all before u32
//   mark     512 bytes: "ACKD", file u32, state u32, pairs u32, and that many times slot u32, sequence number u32
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

enum { RECORD = 1024, MARK = 512, BLOCK = 4096, MOST = 8, CHURN_RECORDS = 48, CHURN_FILES = 6 };
enum { THERE = 1, GONE = 2 };

struct record { uint32_t magic, file, slot, sequence; unsigned char filling[RECORD - 20]; uint32_t crc; };
struct mark { uint32_t magic, file, state, pairs; struct { uint32_t slot, sequence; } pair[62]; };

static volatile sig_atomic_t stopped;
static uint64_t state;
static int device;
static off_t notes;
static uint32_t table[256];

static void stop(int signal) { (void)signal, stopped = 1; }

static void fail(const char *what) {
  fprintf(stderr, "records: %s: %s\n", what, strerror(errno));
  _exit(1);
}

static uint32_t below(uint32_t limit) {  // xorshift64*
  state ^= state >> 12;
  state ^= state << 25;
  state ^= state >> 27;
  return (uint32_t)((state * 2685821657736338717ULL) >> 32) % limit;
}

static uint32_t crc(const unsigned char *data, size_t count) {
  uint32_t value = ~0u;
  while (count--) value = table[(value ^ *data++) & 255] ^ (value >> 8);
  return ~value;
}

static void fill(struct record *record, uint32_t file, uint32_t slot, uint32_t sequence) {
  *record = (struct record){.magic = 0x4f434552, .file = file, .slot = slot, .sequence = sequence};
  memset(record->filling, (int)(file + sequence), sizeof record->filling);
  record->crc = crc((unsigned char *)record, RECORD - 4);
}

static void note(struct mark *mark) {
  static unsigned char *buffer;
  if (!buffer && posix_memalign((void **)&buffer, BLOCK, MARK)) fail("posix_memalign");
  mark->magic = 0x444b4341;
  memcpy(buffer, mark, MARK);
  if (pwrite(device, buffer, MARK, notes) != MARK) fail("the note");
}

// Overwrites a few records, syncs them, and notes that they are synced.
static void overwrite(const char *path, const char *method, uint32_t file) {
  const int direct = !strcmp(method, "direct"), mapped = !strcmp(method, "msync"), dsync = !strcmp(method, "dsync");
  const int fd = open(path, O_RDWR | (dsync || direct ? O_DSYNC : 0) | (direct ? O_DIRECT : 0));
  struct stat info;
  if (fd < 0 || fstat(fd, &info)) fail(path);
  const uint32_t slots = (uint32_t)(info.st_size / RECORD), slots_in_block = BLOCK / RECORD;
  unsigned char *map = mapped ? mmap(NULL, (size_t)info.st_size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0) : NULL;
  unsigned char *block;
  if (map == MAP_FAILED || posix_memalign((void **)&block, BLOCK, BLOCK)) fail("memory");
  for (uint32_t sequence = 1; !stopped; sequence++) {
    struct mark mark = {.file = file, .state = THERE};
    if (direct || mapped) {
      // A whole page, because it is written and synced as one.
      const uint32_t first = below(slots / slots_in_block) * slots_in_block;
      unsigned char *to = mapped ? map + (size_t)first * RECORD : block;
      for (uint32_t i = 0; i < slots_in_block; i++) {
        fill((struct record *)(block + i * RECORD), file, first + i, sequence);
        mark.pair[mark.pairs].slot = first + i;
        mark.pair[mark.pairs++].sequence = sequence;
      }
      if (mapped) memcpy(to, block, BLOCK);
      if (mapped && msync(to, BLOCK, MS_SYNC)) fail("msync");
      if (direct && pwrite(fd, block, BLOCK, (off_t)first * RECORD) != BLOCK) fail("pwrite");
    } else {
      for (uint32_t count = 1 + below(MOST); count > 0; count--) {
        struct record record;
        const uint32_t slot = below(slots);
        fill(&record, file, slot, sequence);
        if (pwrite(fd, &record, RECORD, (off_t)slot * RECORD) != RECORD) fail("pwrite");
        mark.pair[mark.pairs].slot = slot;
        mark.pair[mark.pairs++].sequence = sequence;
      }
      if (!dsync && (strcmp(method, "fsync") ? fdatasync(fd) : fsync(fd))) fail(method);
    }
    note(&mark);
  }
}

// Makes files and removes them, so that blocks go from one file to another.
static void churn(const char *folder, uint32_t first) {
  const int folder_fd = open(folder, O_RDONLY | O_DIRECTORY);
  if (folder_fd < 0) fail(folder);
  for (uint32_t file = first; !stopped; file++) {
    char path[4096];
    struct mark mark = {.file = file - CHURN_FILES, .state = GONE};
    if (file >= first + CHURN_FILES) {
      note(&mark);
      snprintf(path, sizeof path, "%s/churn-%u", folder, file - CHURN_FILES);
      if (unlink(path)) fail(path);
    }
    snprintf(path, sizeof path, "%s/churn-%u", folder, file);
    const int fd = open(path, O_RDWR | O_CREAT | O_EXCL, 0644);
    if (fd < 0) fail(path);
    mark = (struct mark){.file = file, .state = THERE};
    // Every other one first, so that there is something to do.
    for (uint32_t odd = 0; odd < 2; odd++) {
      for (uint32_t slot = odd * 4; slot < CHURN_RECORDS; slot += slot % 4 == 3 ? 5 : 1) {
        struct record record;
        fill(&record, file, slot, 0);
        if (pwrite(fd, &record, RECORD, (off_t)slot * RECORD) != RECORD) fail("pwrite");
        mark.pair[mark.pairs++].slot = slot;
      }
      if (fdatasync(fd)) fail("fdatasync");
    }
    if (fsync(fd) || fsync(folder_fd) || close(fd)) fail("fsync");
    note(&mark);
    usleep(20000);
  }
}

static void work(char **argv, int index) {
  char method[32], path[4096];
  uint32_t file;
  if (sscanf(argv[index], "%31[a-z]-%u", method, &file) != 2) fail(argv[index]);
  state = strtoull(argv[3], NULL, 10) * 131 + (uint64_t)index * 2 + 1;
  notes = strtoll(argv[2], NULL, 10) + (index - 5) * MARK;
  snprintf(path, sizeof path, "%s/%s", argv[4], argv[index]);
  if (!strcmp(method, "churn")) churn(argv[4], file);
  else overwrite(path, method, file);
}

int main(int argc, char **argv) {
  if (argc < 6 || argc > 5 + 64) return 2;
  for (uint32_t i = 0; i < 256; i++) {
    table[i] = i;
    for (int bit = 0; bit < 8; bit++) table[i] = table[i] >> 1 ^ (table[i] & 1 ? 0xedb88320u : 0);
  }
  device = open(argv[1], O_RDWR | O_DIRECT);
  if (device < 0) fail(argv[1]);
  // Calls of the children go on after the signal; the parent's wait does not.
  signal(SIGTERM, stop);
  pid_t children[64];
  for (int i = 5; i < argc; i++) {
    if ((children[i - 5] = fork())) continue;
    work(argv, i);
    _exit(0);
  }
  const struct sigaction interrupt = {.sa_handler = stop};
  sigaction(SIGTERM, &interrupt, NULL);
  int worst = 0, status;
  // None of them ends by itself.
  if (!stopped && waitpid(-1, &status, 0) > 0) worst = 1;
  for (int i = 5; i < argc; i++) kill(children[i - 5], SIGTERM);
  while (waitpid(-1, &status, 0) > 0) {
    if (status) worst = 1;
  }
  return worst;
}
