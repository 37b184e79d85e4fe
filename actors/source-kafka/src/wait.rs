//! How long librdkafka waits, told by a clock that nobody sets.
//!
//! It waits for its queues with `cnd_timedwait`, up to a time of the wall clock. When that clock is
//! set back, a wait that is under way lasts for as much longer: the readers of a quiet tail, the
//! client's own threads, a group's member, and whoever waits for one of them to end. A program that
//! defines the function itself is linked to its own; this one waits by the monotonic clock.
//!
//! Only with glibc, where these conditions and mutexes are those of its threads, and a wait may name
//! its clock (both since 2.30). Elsewhere the C library's function stays in place.
#![cfg(all(target_os = "linux", target_env = "gnu", target_pointer_width = "64"))]
#![allow(unsafe_code)]

use std::ffi::c_int;

use libc::CLOCK_MONOTONIC;
use libc::CLOCK_REALTIME;
use libc::ETIMEDOUT;
use libc::clockid_t;
use libc::pthread_cond_t;
use libc::pthread_mutex_t;
use libc::timespec;

/// `thrd_success`, `thrd_timedout` and `thrd_error` of glibc's `threads.h`.
const SUCCESS: c_int = 0;
const TIMED_OUT: c_int = 4;
const FAILED: c_int = 2;

const SECOND: i64 = 1_000_000_000;

/// The longest wait at a time. One that ends early is begun again by librdkafka, which knows by the
/// monotonic clock how much of it is left; so this also bounds what a jump does between the moment
/// in which librdkafka has looked at the wall clock and the one in which this function does.
const LONGEST: i64 = SECOND;

unsafe extern "C" {
    fn pthread_cond_clockwait(
        condition: *mut pthread_cond_t,
        mutex: *mut pthread_mutex_t,
        clock: clockid_t,
        until: *const timespec,
    ) -> c_int;
}

/// Nanoseconds that a clock shows.
fn now(clock: clockid_t) -> i64 {
    let mut time = timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: the time is ours, and there are clocks of both names.
    unsafe { libc::clock_gettime(clock, &raw mut time) };
    nanos(time)
}

fn nanos(time: timespec) -> i64 {
    time.tv_sec
        .saturating_mul(SECOND)
        .saturating_add(time.tv_nsec)
}

/// # Safety
/// As the function of this name in `threads.h`: a condition, a mutex that the caller holds, and a
/// time, all alive.
#[unsafe(no_mangle)]
unsafe extern "C" fn cnd_timedwait(
    condition: *mut pthread_cond_t,
    mutex: *mut pthread_mutex_t,
    until: *const timespec,
) -> c_int {
    // SAFETY: the caller's time.
    let until = nanos(unsafe { *until });
    let wait = until.saturating_sub(now(CLOCK_REALTIME)).clamp(0, LONGEST);
    let until = now(CLOCK_MONOTONIC).saturating_add(wait);
    let until = timespec {
        tv_sec: until / SECOND,
        tv_nsec: until % SECOND,
    };
    // SAFETY: the caller's condition and mutex, which are those of pthreads in glibc.
    match unsafe { pthread_cond_clockwait(condition, mutex, CLOCK_MONOTONIC, &raw const until) } {
        0 => SUCCESS,
        ETIMEDOUT => TIMED_OUT,
        _ => FAILED,
    }
}
