// Preloaded into a program that unlinks its files as soon as it has them open (LD_PRELOAD): unlink(2) gives a file
// another name instead, so that a defragmenter can find it. The last few names of a process are kept, and when a
// directory is removed what is kept in it goes first.
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { KEPT = 4 };
#define MARK ".lingers-"

static unsigned count;

int unlink(const char *path) {
  struct stat info;
  char kept[4096];
  const char *slash = strrchr(path, '/');
  const int folder = slash ? (int)(slash - path) : 0;
  if (lstat(path, &info) || !S_ISREG(info.st_mode) || info.st_nlink > 1 || !slash || strstr(path, MARK))
    return (int)syscall(SYS_unlink, path);
  snprintf(kept, sizeof kept, "%.*s/" MARK "%d-%u", folder, path, getpid(), count++ % KEPT);
  // What may not be renamed may not be unlinked either.
  return rename(path, kept);
}

static void remove_kept(const char *path) {
  DIR *directory = opendir(path);
  for (struct dirent *entry; directory && (entry = readdir(directory));) {
    char kept[4096];
    if (strncmp(entry->d_name, MARK, strlen(MARK))) continue;
    snprintf(kept, sizeof kept, "%s/%s", path, entry->d_name);
    syscall(SYS_unlink, kept);
  }
  if (directory) closedir(directory);
}

int rmdir(const char *path) {
  int result = -1;
  // Other processes of the program may unlink something just now.
  for (int attempt = 0; attempt < 20 && result; attempt++) {
    if (attempt > 0) usleep(20000);
    remove_kept(path);
    result = (int)syscall(SYS_rmdir, path);
    if (result && errno != ENOTEMPTY) break;
  }
  return result;
}
