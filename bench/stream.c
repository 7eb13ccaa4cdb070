/*
 * One TCP connection that carries as much as it can (RFC 9293): what iperf3 does, without it.
 *
 *   stream take ADDRESS PORT              takes one connection to its end; says when it listens
 *   stream send ADDRESS PORT SECONDS      sends for so long
 *
 * Each ends with one line of JSON: octets, seconds of the clock, and seconds of CPU. Where all machines are namespaces of one kernel, most of what
 * happens on the way is done by the sender's own calls, and counts as its CPU.
 */
#define _GNU_SOURCE
#include <netdb.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "common.h"

enum { CHUNK = 128 * 1024, PATIENCE = 10 };

static double cpu(void) {
  struct rusage usage;
  getrusage(RUSAGE_SELF, &usage);
  return usage.ru_utime.tv_sec + usage.ru_stime.tv_sec + (usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / 1e6;
}

static int open_socket(const char *address, const char *port, bool listens) {
  struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_NUMERICHOST | AI_NUMERICSERV}, *found;
  if (getaddrinfo(address, port, &hints, &found) != 0) fail("address");
  int fd = socket(found->ai_family, SOCK_STREAM, 0), one = 1;
  struct timeval patience = {.tv_sec = PATIENCE};
  setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
  setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
  setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof patience);
  if (listens ? bind(fd, found->ai_addr, found->ai_addrlen) || listen(fd, 1) : connect(fd, found->ai_addr, found->ai_addrlen))
    fail(listens ? "listen" : "connect");
  freeaddrinfo(found);
  return fd;
}

int main(int count, char **words) {
  static char chunk[CHUNK];
  bool sends = count == 5 && strcmp(words[1], "send") == 0;
  if (!sends && !(count == 4 && strcmp(words[1], "take") == 0)) {
    fputs("usage: stream take ADDRESS PORT | stream send ADDRESS PORT SECONDS\n", stderr);
    return 2;
  }
  int fd = open_socket(words[2], words[3], !sends);
  if (!sends) {
    puts("{\"listens\":true}");
    fflush(stdout);
    if ((fd = accept(fd, NULL, NULL)) < 0) fail("accept");
  }
  double begin = now(), busy = cpu(), end = begin + (sends ? atof(words[4]) : 1e9);
  long long octets = 0;
  for (ssize_t part = 1; part > 0 && now() < end; octets += part)
    if ((part = sends ? send(fd, chunk, CHUNK, MSG_NOSIGNAL) : recv(fd, chunk, CHUNK, 0)) < 0) fail(words[1]);
  printf("{\"octets\":%lld,\"seconds\":%.6f,\"cpu\":%.6f}\n", octets, now() - begin, cpu() - busy);
  return 0;
}
