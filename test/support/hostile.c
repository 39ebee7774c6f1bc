// An attacker who swaps names while a tree is walked, and a witness who sees what is opened.
//
//   hostile exchange A B [A B]...   exchanges the two names of each pair, over and over
//   hostile watch PATH...           notes every opening, writing and change of attributes
//
// Both print "ready" and work until SIGTERM; then the first prints how many exchanges it made, the second a line for
// each kind of event and path. They end with their parent.
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/prctl.h>
#include <unistd.h>

enum { MOST_WATCHED = 4096 };

static volatile sig_atomic_t stopped;

static void stop(int signal) {
  (void)signal;
  stopped = 1;
}

static int fail(const char *what) {
  printf("%s: %s\n", what, strerror(errno));
  return 1;
}

static void ready(void) {
  puts("ready");
  fflush(stdout);
}

static int exchange(char **names, int count) {
  unsigned long done = 0;
  ready();
  while (!stopped) {
    for (int i = 0; i + 1 < count; i += 2) {
      if (renameat2(AT_FDCWD, names[i], AT_FDCWD, names[i + 1], RENAME_EXCHANGE) == 0) done++;
      // A name below another pair's directory is away half of the time.
      else if (errno != ENOENT && errno != ENOTDIR) return fail(names[i]);
    }
  }
  printf("%lu\n", done);
  return 0;
}

static const struct {
  uint32_t mask;
  const char *name;
} KINDS[] = {{IN_OPEN, "open"}, {IN_MODIFY, "write"}, {IN_CLOSE_WRITE, "close-write"}, {IN_ATTRIB, "attributes"}};
enum { KIND_COUNT = sizeof KINDS / sizeof *KINDS };

static int watch(char **paths, int count) {
  static unsigned char seen[MOST_WATCHED + 1][KIND_COUNT];
  static int path_of[MOST_WATCHED + 1];
  const int fd = inotify_init1(IN_CLOEXEC | IN_NONBLOCK);
  if (fd < 0) return fail("inotify_init1");
  uint32_t mask = IN_DONT_FOLLOW;
  for (int k = 0; k < KIND_COUNT; k++) mask |= KINDS[k].mask;
  for (int i = 0; i < count; i++) {
    const int id = inotify_add_watch(fd, paths[i], mask);
    if (id < 0 || id > MOST_WATCHED) return fail(paths[i]);
    path_of[id] = i;
  }
  ready();
  _Alignas(struct inotify_event) char buffer[64 * 1024];
  for (;;) {
    // What happened before the signal is read after it.
    const int last = stopped;
    ssize_t bytes;
    while ((bytes = read(fd, buffer, sizeof buffer)) > 0) {
      for (char *at = buffer; at < buffer + bytes;) {
        const struct inotify_event *event = (const struct inotify_event *)at;
        if (event->mask & IN_Q_OVERFLOW) return fail("too many events");
        for (int k = 0; event->wd > 0 && k < KIND_COUNT; k++)
          if (event->mask & KINDS[k].mask) seen[event->wd][k] = 1;
        at += sizeof *event + event->len;
      }
    }
    if (last) break;
    struct pollfd one = {fd, POLLIN, 0};
    poll(&one, 1, 100);
  }
  for (int id = 1; id <= MOST_WATCHED; id++)
    for (int k = 0; k < KIND_COUNT; k++)
      if (seen[id][k]) printf("%s %s\n", KINDS[k].name, paths[path_of[id]]);
  return 0;
}

int main(int argc, char **argv) {
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  signal(SIGTERM, stop);
  if (argc > 2 && strcmp(argv[1], "exchange") == 0) return exchange(argv + 2, argc - 2);
  if (argc > 2 && strcmp(argv[1], "watch") == 0) return watch(argv + 2, argc - 2);
  return 2;
}
