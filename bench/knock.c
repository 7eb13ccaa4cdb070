/*
 * Knocks at a door again and again, each time as somebody new, and says when it was shut or opened: datagrams (RFC 768) from one network namespace to another, each
 * from a port of its own, so that no packet filter knows its connection.
 *
 *   knock FROM-NAMESPACE SOURCE TO-NAMESPACE ADDRESS PORT INTERVAL
 *
 * Namespaces are paths, the interval is in microseconds. Each line of standard input begins a watch: "shut" or "open". It answers {"event":"knocking"} once it has
 * seen the door the other way around, and {"event":"shut"|"open","time":T}: CLOCK_MONOTONIC seconds at which the first datagram was sent that was not let
 * in with all after it, or the first one that was.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <netdb.h>
#include <poll.h>
#include <sched.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "common.h"

/* Datagrams in a row that are lost before the door counts as shut. */
enum { SILENCE = 60, REMEMBERED = 1 << 16 };

static double sent[REMEMBERED];

static void enter(const char *namespace) {
  int fd = open(namespace, O_RDONLY | O_CLOEXEC);
  if (fd < 0 || setns(fd, CLONE_NEWNET) < 0) fail(namespace);
  close(fd);
}

static void knock(const struct addrinfo *from, const struct addrinfo *to, uint64_t number) {
  int fd = socket(from->ai_family, SOCK_DGRAM, 0);
  if (fd < 0 || bind(fd, from->ai_addr, from->ai_addrlen) < 0) fail("socket");
  sent[number % REMEMBERED] = now();
  /* What the filter refuses at once is as good as lost. */
  if (sendto(fd, &number, sizeof number, 0, to->ai_addr, to->ai_addrlen) < 0) sent[number % REMEMBERED] = now();
  close(fd);
}

/* The highest number that came in so far; `last` where none did. `earliest`: of those from `first` on, the one that came first; 0: none yet. */
static uint64_t heard(int fd, uint64_t last, uint64_t first, uint64_t *earliest) {
  for (uint64_t number; recv(fd, &number, sizeof number, MSG_DONTWAIT) == sizeof number;) {
    if (number > last) last = number;
    if (number >= first && *earliest == 0) *earliest = number;
  }
  return last;
}

static void say(const char *event, double time) {
  if (time > 0) printf("{\"event\":\"%s\",\"time\":%.6f}\n", event, time);
  else printf("{\"event\":\"%s\"}\n", event);
  fflush(stdout);
}

int main(int count, char **words) {
  if (count != 7) {
    fputs("usage: knock FROM-NAMESPACE SOURCE TO-NAMESPACE ADDRESS PORT INTERVAL\n", stderr);
    return 2;
  }
  struct addrinfo *from = resolved(words[2], "0", SOCK_DGRAM), *to = resolved(words[4], words[5], SOCK_DGRAM);
  double interval = atof(words[6]) / 1e6;
  enter(words[3]);
  int door = socket(to->ai_family, SOCK_DGRAM, 0);
  if (door < 0 || bind(door, to->ai_addr, to->ai_addrlen) < 0) fail("bind");
  enter(words[1]);
  uint64_t number = 0;
  for (char line[16]; fgets(line, sizeof line, stdin);) {
    bool shuts = strcmp(line, "shut\n") == 0, knocking = false;
    uint64_t first = number + 1, earliest = 0, last = heard(door, number, first, &earliest);
    for (double next = now();; next += interval) {
      knock(from, to, ++number);
      for (double left; (left = next + interval - now()) > 0;) {
        struct pollfd one = {.fd = door, .events = POLLIN};
        struct timespec time = {.tv_sec = 0, .tv_nsec = (long)(left * 1e9)};
        if (ppoll(&one, 1, &time, NULL) > 0) last = heard(door, last, first, &earliest);
      }
      /* After a pause that the machine made, no burst. */
      if (now() - next > 10 * interval) next = now();
      last = heard(door, last, first, &earliest);
      bool lost = number - last > SILENCE, here = earliest != 0;
      if (!knocking && (shuts ? here : lost)) {
        knocking = true;
        first = number + 1;
        earliest = 0;
        say("knocking", 0);
      } else if (knocking && (shuts ? lost : here)) {
        say(shuts ? "shut" : "open", sent[(shuts ? last + 1 : earliest) % REMEMBERED]);
        break;
      }
    }
  }
  return 0;
}
