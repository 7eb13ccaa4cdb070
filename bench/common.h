/* What the C programs of bench/ have together: a clock in seconds, an end with a reason, and the address of the other side. */
#ifndef PODLANE_BENCH_COMMON_H
#define PODLANE_BENCH_COMMON_H

#include <netdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

static inline double now(void) {
  struct timespec time;
  clock_gettime(CLOCK_MONOTONIC, &time);
  return time.tv_sec + time.tv_nsec / 1e9;
}

static inline void fail(const char *what) {
  perror(what);
  exit(1);
}

/* `type`: SOCK_STREAM or SOCK_DGRAM; both texts are numbers. */
static inline struct addrinfo *resolved(const char *address, const char *port, int type) {
  struct addrinfo hints = {.ai_socktype = type, .ai_flags = AI_NUMERICHOST | AI_NUMERICSERV}, *found;
  if (getaddrinfo(address, port, &hints, &found) != 0) fail("address");
  return found;
}

#endif
