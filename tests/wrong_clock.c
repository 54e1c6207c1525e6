/* Shifts what a process takes for the time of day by CLOCK_AHEAD seconds; what it measures stays right. Preloaded. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <linux/futex.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdarg.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static time_t ahead(void) {
  static time_t seconds, known;
  if (!known) { const char *text = getenv("CLOCK_AHEAD"); seconds = text ? atol(text) : 0; known = text != NULL; }
  return seconds;
}
/* Moments that the kernel is told come from the shifted clock: they are shifted back. Others are small. */
static const struct timespec *real(const struct timespec *at, struct timespec *room) {
  if (!at || at->tv_sec < 1000000000) return at;
  *room = *at;
  room->tv_sec -= ahead();
  return room;
}
static void *next(const char *name) {
  void *one = dlvsym(RTLD_NEXT, name, "GLIBC_2.3.2");
  return one ? one : dlsym(RTLD_NEXT, name);
}
#define NEXT(name) static __typeof__(&name) libc; if (!libc) libc = (__typeof__(&name))next(#name)

int clock_gettime(clockid_t clock, struct timespec *now) {
  NEXT(clock_gettime);
  int failed = libc(clock, now);
  if (!failed && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE)) now->tv_sec += ahead();
  return failed;
}
int gettimeofday(struct timeval *restrict now, void *restrict zone) {
  struct timespec at;
  clock_gettime(CLOCK_REALTIME, &at);
  now->tv_sec = at.tv_sec;
  now->tv_usec = at.tv_nsec / 1000;
  return 0;
}
time_t time(time_t *now) {
  struct timespec at;
  clock_gettime(CLOCK_REALTIME, &at);
  if (now) *now = at.tv_sec;
  return at.tv_sec;
}
int pthread_cond_timedwait(pthread_cond_t *restrict c, pthread_mutex_t *restrict m, const struct timespec *restrict at) {
  struct timespec room;
  NEXT(pthread_cond_timedwait);
  return libc(c, m, real(at, &room));
}
int pthread_mutex_timedlock(pthread_mutex_t *restrict m, const struct timespec *restrict at) {
  struct timespec room;
  NEXT(pthread_mutex_timedlock);
  return libc(m, real(at, &room));
}
int sem_timedwait(sem_t *restrict s, const struct timespec *restrict at) {
  struct timespec room;
  NEXT(sem_timedwait);
  return libc(s, real(at, &room));
}
int pthread_cond_clockwait(pthread_cond_t *c, pthread_mutex_t *m, clockid_t clock, const struct timespec *at) {
  struct timespec room;
  NEXT(pthread_cond_clockwait);
  return libc(c, m, clock, real(at, &room));
}
int sem_clockwait(sem_t *s, clockid_t clock, const struct timespec *at) {
  struct timespec room;
  NEXT(sem_clockwait);
  return libc(s, clock, real(at, &room));
}
int clock_nanosleep(clockid_t clock, int flags, const struct timespec *at, struct timespec *left) {
  struct timespec room;
  NEXT(clock_nanosleep);
  return libc(clock, flags, flags & TIMER_ABSTIME ? real(at, &room) : at, left);
}
long syscall(long number, ...) {
  static long (*libc)(long, ...);
  struct timespec room;
  long a[6];
  va_list list;
  va_start(list, number);
  for (int i = 0; i < 6; i++) a[i] = va_arg(list, long);
  va_end(list);
  if (!libc) libc = dlsym(RTLD_NEXT, "syscall");
  if (number == SYS_futex && (a[1] & FUTEX_CLOCK_REALTIME)) a[3] = (long)real((const struct timespec *)a[3], &room);
  return libc(number, a[0], a[1], a[2], a[3], a[4], a[5]);
}
