/*
 * Requests and responses of one octet over TCP (RFC 9293), on one connection and each on a new one: what packets of a known connection cost, and the first
 * packet of a new one.
 *
 *   exchange serve ADDRESS PORT             takes connections one after the other, and sends back what it gets; says when it listens
 *   exchange ask ADDRESS PORT SECONDS       one connection, requests one after the other
 *   exchange connect ADDRESS PORT SECONDS   a connection for each request, reset behind the response, so that none keeps its port
 *
 * Each but the first ends with one line of JSON: how many, and microseconds of one (median and 99th percentile).
 */
#define _GNU_SOURCE
#include <netdb.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "common.h"

enum { MAXIMUM = 4 * 1000 * 1000, PATIENCE = 10 };

static float times[MAXIMUM];

static int open_socket(const struct addrinfo *to) {
  int fd = socket(to->ai_family, SOCK_STREAM, 0), one = 1;
  if (fd < 0) fail("socket");
  struct timeval patience = {.tv_sec = PATIENCE};
  setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
  setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof patience);
  setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
  setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
  return fd;
}

static int connected(const struct addrinfo *to) {
  int fd = open_socket(to);
  if (connect(fd, to->ai_addr, to->ai_addrlen) < 0) fail("connect");
  return fd;
}

static void serve(const struct addrinfo *at) {
  int listener = open_socket(at);
  if (bind(listener, at->ai_addr, at->ai_addrlen) < 0 || listen(listener, 1024) < 0) fail("listen");
  puts("{\"listens\":true}");
  fflush(stdout);
  for (;;) {
    char octets[64];
    int fd = accept(listener, NULL, NULL), one = 1;
    // None within the patience: the next one.
    if (fd < 0) continue;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    for (ssize_t count; (count = recv(fd, octets, sizeof octets, 0)) > 0;)
      if (send(fd, octets, count, MSG_NOSIGNAL) < 0) break;
    close(fd);
  }
}

static void exchange(int fd) {
  char octet = 'x';
  if (send(fd, &octet, 1, MSG_NOSIGNAL) != 1 || recv(fd, &octet, 1, 0) != 1) fail("ask");
}

static void once(const struct addrinfo *to) {
  struct linger reset = {.l_onoff = 1, .l_linger = 0};
  int fd = connected(to);
  exchange(fd);
  setsockopt(fd, SOL_SOCKET, SO_LINGER, &reset, sizeof reset);
  close(fd);
}

static int ascending(const void *a, const void *b) {
  float difference = *(const float *)a - *(const float *)b;
  return (difference > 0) - (difference < 0);
}

int main(int count, char **words) {
  int serves = count == 4 && strcmp(words[1], "serve") == 0;
  int asks = count == 5 && strcmp(words[1], "ask") == 0;
  if (!serves && !asks && !(count == 5 && strcmp(words[1], "connect") == 0)) {
    fputs("usage: exchange serve ADDRESS PORT | exchange ask|connect ADDRESS PORT SECONDS\n", stderr);
    return 2;
  }
  struct addrinfo *found = resolved(words[2], words[3], SOCK_STREAM);
  if (serves) serve(found);
  int fd = asks ? connected(found) : -1;
  double begin = now(), end = begin + atof(words[4]), before = begin;
  int done = 0;
  while (before < end && done < MAXIMUM) {
    if (asks) exchange(fd);
    else once(found);
    double after = now();
    times[done++] = (after - before) * 1e6;
    before = after;
  }
  double seconds = before - begin;
  qsort(times, done, sizeof times[0], ascending);
  printf("{\"count\":%d,\"seconds\":%.6f,\"median\":%.2f,\"p99\":%.2f}\n", done, seconds, times[done / 2], times[done * 99LL / 100]);
  return 0;
}
