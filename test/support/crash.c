// An application that syncs a write, and a crash right after it.
//
//   crash FILE OFFSET LENGTH BYTE
//
// Overwrites a range in place, calls fdatasync, and then has the filesystem drop everything that is not on the device
// yet (EXT4_IOC_SHUTDOWN with EXT4_GOING_FLAGS_NOLOGFLUSH, fs/ext4/ext4.h): what a power cut leaves.
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#define EXT4_IOC_SHUTDOWN _IOR('X', 125, uint32_t)
#define EXT4_GOING_FLAGS_NOLOGFLUSH 2

int main(int argc, char **argv) {
  if (argc != 5) return 2;
  const off_t offset = strtoll(argv[2], NULL, 10);
  const size_t length = strtoull(argv[3], NULL, 10);
  const uint32_t how = EXT4_GOING_FLAGS_NOLOGFLUSH;
  char *data = malloc(length);
  const int fd = open(argv[1], O_RDWR);
  if (!data || fd < 0) return perror("open"), 1;
  memset(data, argv[4][0], length);
  if (pwrite(fd, data, length, offset) != (ssize_t)length) return perror("pwrite"), 1;
  if (fdatasync(fd)) return perror("fdatasync"), 1;
  if (ioctl(fd, EXT4_IOC_SHUTDOWN, &how)) return perror("EXT4_IOC_SHUTDOWN"), 1;
  return 0;
}
