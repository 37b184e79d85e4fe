//! Loaded in front of the C library into a process of a test: calls into the system go wrong
//! as the directory that `REFOLD_FAULTS` names says.
//!
//! | file in it | effect |
//! |---|---|
//! | `fsync-pg_wal`, `fsync-base` | while it is there, fsync and fdatasync answer EIO for files below a directory `pg_wal`, `base`; each such answer appends a byte to `struck`. What is written below `pg_wal` meanwhile is lost, as the kernel may drop pages that it could not write |
//! | `clock`, there when the process asks for the time first | every 250 ms the wall clock jumps between an hour ahead and an hour behind; each jump that the process sees appends a byte. The monotonic clock stays. A wait up to a time of the wall clock ends when that clock shows it, as with a clock that was really set |
//! | `clock-behind` | while it is there, a clock that is wrong stays three hours behind |
//!
//! Nothing here allocates, and nothing is of the standard library: these functions are called
//! before the process is set up, from within its allocator, and in each of its threads.

#![no_std]

use core::ffi::CStr;
use core::ffi::c_char;
use core::ffi::c_int;
use core::ffi::c_long;
use core::ffi::c_void;
use core::mem::transmute;
use core::panic::PanicInfo;
use core::sync::atomic::AtomicI64;
use core::sync::atomic::AtomicU8;
use core::sync::atomic::AtomicUsize;
use core::sync::atomic::Ordering::AcqRel;
use core::sync::atomic::Ordering::Acquire;
use core::sync::atomic::Ordering::Release;

const EIO: c_int = 5;
const F_OK: c_int = 0;
const O_WRONLY: c_int = 0o1;
const O_APPEND: c_int = 0o2000;
const O_CLOEXEC: c_int = 0o2_000_000;
/// The definition after the one of this library.
const RTLD_NEXT: *mut c_void = -1_isize as *mut c_void;

/// The file that says that syncs fail, and what the path of the files has in it.
const WAL: (&[u8], &[u8]) = (b"fsync-pg_wal", b"/pg_wal/");
const TABLES: (&[u8], &[u8]) = (b"fsync-base", b"/base/");

const CLOCK_REALTIME: c_int = 0;
const CLOCK_MONOTONIC: c_int = 1;
const CLOCK_REALTIME_COARSE: c_int = 5;
const CLOCK_TAI: c_int = 11;
const ETIMEDOUT: c_int = 110;
const THRD_TIMEDOUT: c_int = 4;

const SECOND: c_long = 1_000_000_000;
/// Nanoseconds after which a wait looks at the clock again.
const LOOK_EVERY: c_long = 20_000_000;
/// Nanoseconds between two jumps.
const JUMP_EVERY: i64 = 250_000_000;
/// Seconds by which the clock is wrong.
const WRONG_BY: c_long = 3_600;

#[repr(C)]
#[derive(Clone, Copy)]
struct Timespec {
    seconds: c_long,
    nanos: c_long,
}

#[repr(C)]
struct Timeval {
    seconds: c_long,
    micros: c_long,
}

#[link(name = "c")]
unsafe extern "C" {
    fn __errno_location() -> *mut c_int;
    fn abort() -> !;
    fn access(path: *const c_char, mode: c_int) -> c_int;
    fn close(fd: c_int) -> c_int;
    fn dlsym(handle: *mut c_void, name: *const c_char) -> *mut c_void;
    fn getenv(name: *const c_char) -> *const c_char;
    fn open(path: *const c_char, flags: c_int, ...) -> c_int;
    fn readlink(path: *const c_char, buffer: *mut c_char, size: usize) -> isize;
    fn write(fd: c_int, bytes: *const c_void, size: usize) -> isize;
}

#[panic_handler]
fn panic(_: &PanicInfo<'_>) -> ! {
    // SAFETY: takes nothing and does not return.
    unsafe { abort() }
}

/// The C library's own definition, looked up once.
fn next(slot: &AtomicUsize, name: &CStr) -> usize {
    let known = slot.load(Acquire);
    if known != 0 {
        return known;
    }
    // SAFETY: the name ends with a zero byte.
    let found = unsafe { dlsym(RTLD_NEXT, name.as_ptr()) } as usize;
    if found == 0 {
        // SAFETY: takes nothing and does not return.
        unsafe { abort() }
    }
    slot.store(found, Release);
    found
}

/// A path that fits or is cut, with a zero byte at its end.
struct Path {
    bytes: [u8; 512],
    length: usize,
}

impl Path {
    fn of(parts: &[&[u8]]) -> Self {
        let mut path = Self {
            bytes: [0; 512],
            length: 0,
        };
        for byte in parts.iter().flat_map(|part| part.iter()) {
            if path.length < path.bytes.len() - 1 {
                path.bytes[path.length] = *byte;
                path.length += 1;
            }
        }
        path
    }

    fn as_ptr(&self) -> *const c_char {
        self.bytes.as_ptr().cast()
    }

    fn contains(&self, part: &[u8]) -> bool {
        let bytes = &self.bytes[..self.length];
        bytes.windows(part.len()).any(|window| window == part)
    }
}

/// A file in the directory of the faults; `None` in a process that has none.
fn fault(name: &[u8]) -> Option<Path> {
    // SAFETY: the name ends with a zero byte.
    let dir = unsafe { getenv(c"REFOLD_FAULTS".as_ptr()) };
    if dir.is_null() {
        return None;
    }
    // SAFETY: what is in the environment ends with a zero byte.
    let dir = unsafe { CStr::from_ptr(dir) };
    Some(Path::of(&[dir.to_bytes(), b"/", name]))
}

fn is_there(path: &Path) -> bool {
    // SAFETY: the path ends with a zero byte.
    unsafe { access(path.as_ptr(), F_OK) == 0 }
}

/// Appends a byte to a file that is there.
fn note(path: &Path) {
    // SAFETY: the path ends with a zero byte, and one byte is written from a live array.
    unsafe {
        let fd = open(path.as_ptr(), O_WRONLY | O_APPEND | O_CLOEXEC);
        if fd >= 0 {
            write(fd, b"!".as_ptr().cast(), 1);
            close(fd);
        }
    }
}

/// The file behind a descriptor.
fn file_of(fd: c_int) -> Path {
    let mut digits = [b'0'; 10];
    let mut rest = fd.unsigned_abs();
    let mut first = digits.len();
    loop {
        first -= 1;
        digits[first] = b'0' + (rest % 10) as u8;
        rest /= 10;
        if rest == 0 {
            break;
        }
    }
    let link = Path::of(&[b"/proc/self/fd/", &digits[first..]]);
    let mut file = Path::of(&[]);
    let room = file.bytes.len() - 1;
    // SAFETY: the link ends with a zero byte, and the buffer has room for what is written.
    let read = unsafe { readlink(link.as_ptr(), file.bytes.as_mut_ptr().cast(), room) };
    file.length = usize::try_from(read).unwrap_or(0);
    file
}

/// Whether the file `trigger` is there, and the descriptor's file is below `place`.
fn is_hit(fd: c_int, (trigger, place): (&[u8], &[u8])) -> bool {
    fault(trigger).is_some_and(|trigger| is_there(&trigger)) && file_of(fd).contains(place)
}

/// Whether a descriptor's file cannot be synced now; errno says so then.
fn is_struck(fd: c_int) -> bool {
    let struck = is_hit(fd, WAL) || is_hit(fd, TABLES);
    if struck {
        if let Some(struck) = fault(b"struck") {
            note(&struck);
        }
        // SAFETY: the pointer is to this thread's own errno.
        unsafe { *__errno_location() = EIO };
    }
    struck
}

#[unsafe(no_mangle)]
extern "C" fn fsync(fd: c_int) -> c_int {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    if is_struck(fd) {
        return -1;
    }
    // SAFETY: the function of this name has this type.
    let real: extern "C" fn(c_int) -> c_int = unsafe { transmute(next(&NEXT, c"fsync")) };
    real(fd)
}

#[unsafe(no_mangle)]
extern "C" fn fdatasync(fd: c_int) -> c_int {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    if is_struck(fd) {
        return -1;
    }
    // SAFETY: the function of this name has this type.
    let real: extern "C" fn(c_int) -> c_int = unsafe { transmute(next(&NEXT, c"fdatasync")) };
    real(fd)
}

type Wait = extern "C" fn(*mut c_void, *mut c_void, *const Timespec) -> c_int;
type Pwrite = extern "C" fn(c_int, *const c_void, usize, i64) -> isize;

#[unsafe(no_mangle)]
extern "C" fn pwrite(fd: c_int, bytes: *const c_void, size: usize, offset: i64) -> isize {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    if is_hit(fd, WAL) {
        return size.cast_signed();
    }
    // SAFETY: the function of this name has this type.
    let real: Pwrite = unsafe { transmute(next(&NEXT, c"pwrite")) };
    real(fd, bytes, size, offset)
}

#[unsafe(no_mangle)]
extern "C" fn pwrite64(fd: c_int, bytes: *const c_void, size: usize, offset: i64) -> isize {
    pwrite(fd, bytes, size, offset)
}

/// The C library's `clock_gettime`.
fn ask(clock: c_int, time: *mut Timespec) -> c_int {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    let real = next(&NEXT, c"clock_gettime");
    // SAFETY: the function of this name has this type.
    let real: extern "C" fn(c_int, *mut Timespec) -> c_int = unsafe { transmute(real) };
    real(clock, time)
}

/// Whether the clock of this process is wrong, which is decided once.
fn is_wrong() -> bool {
    const RIGHT: u8 = 1;
    const WRONG: u8 = 2;
    static KNOWN: AtomicU8 = AtomicU8::new(0);
    let known = KNOWN.load(Acquire);
    if known != 0 {
        return known == WRONG;
    }
    let wrong = fault(b"clock").is_some_and(|file| is_there(&file));
    KNOWN.store(if wrong { WRONG } else { RIGHT }, Release);
    wrong
}

/// Seconds that the wall clock is wrong by at this moment, of a process whose clock is wrong.
fn wrong_by() -> c_long {
    static LAST: AtomicI64 = AtomicI64::new(0);
    let mut now = Timespec {
        seconds: 0,
        nanos: 0,
    };
    ask(CLOCK_MONOTONIC, &raw mut now);
    let step = (now.seconds * SECOND + now.nanos) / JUMP_EVERY;
    if LAST.swap(step, AcqRel) != step
        && let Some(file) = fault(b"clock")
    {
        note(&file);
    }
    let behind = fault(b"clock-behind").is_some_and(|file| is_there(&file));
    match step % 2 {
        _ if behind => -3 * WRONG_BY,
        0 => WRONG_BY,
        _ => -WRONG_BY,
    }
}

#[unsafe(no_mangle)]
extern "C" fn clock_gettime(clock: c_int, time: *mut Timespec) -> c_int {
    let answer = ask(clock, time);
    let is_wall = matches!(clock, CLOCK_REALTIME | CLOCK_REALTIME_COARSE | CLOCK_TAI);
    if is_wall && answer == 0 && is_wrong() {
        // SAFETY: the call has just written there.
        unsafe { (*time).seconds += wrong_by() };
    }
    answer
}

#[unsafe(no_mangle)]
extern "C" fn gettimeofday(time: *mut Timeval, _zone: *mut c_void) -> c_int {
    let mut now = Timespec {
        seconds: 0,
        nanos: 0,
    };
    let answer = clock_gettime(CLOCK_REALTIME, &raw mut now);
    if !time.is_null() {
        // SAFETY: the caller has room for it there.
        unsafe {
            (*time).seconds = now.seconds;
            (*time).micros = now.nanos / 1_000;
        }
    }
    answer
}

#[unsafe(no_mangle)]
extern "C" fn time(into: *mut c_long) -> c_long {
    let mut now = Timespec {
        seconds: 0,
        nanos: 0,
    };
    clock_gettime(CLOCK_REALTIME, &raw mut now);
    if !into.is_null() {
        // SAFETY: the caller has room for it there.
        unsafe { *into = now.seconds };
    }
    now.seconds
}

/// Waits by `wait`, which takes a time of the true clock and answers `late` when it has come,
/// until the clock of this process shows `until`.
fn wait_until(until: Timespec, late: c_int, mut wait: impl FnMut(&Timespec) -> c_int) -> c_int {
    if !is_wrong() {
        return wait(&until);
    }
    loop {
        let mut now = Timespec {
            seconds: 0,
            nanos: 0,
        };
        ask(CLOCK_REALTIME, &raw mut now);
        let ends = (until.seconds - wrong_by(), until.nanos);
        // The clock may have jumped by then, so that another time of the true clock counts.
        let nanos = now.nanos + LOOK_EVERY;
        let look = (now.seconds + nanos / SECOND, nanos % SECOND);
        let (seconds, nanos) = ends.min(look);
        let answer = wait(&Timespec { seconds, nanos });
        if answer != late || ends <= look {
            return answer;
        }
    }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn pthread_cond_timedwait(
    condition: *mut c_void,
    mutex: *mut c_void,
    until: *const Timespec,
) -> c_int {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    // SAFETY: the function of this name has this type.
    let real: Wait = unsafe { transmute(next(&NEXT, c"pthread_cond_timedwait")) };
    // SAFETY: the caller's time.
    let until = unsafe { *until };
    wait_until(until, ETIMEDOUT, |until| real(condition, mutex, until))
}

#[unsafe(no_mangle)]
unsafe extern "C" fn cnd_timedwait(
    condition: *mut c_void,
    mutex: *mut c_void,
    until: *const Timespec,
) -> c_int {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    // SAFETY: the function of this name has this type.
    let real: Wait = unsafe { transmute(next(&NEXT, c"cnd_timedwait")) };
    // SAFETY: the caller's time.
    let until = unsafe { *until };
    wait_until(until, THRD_TIMEDOUT, |until| real(condition, mutex, until))
}
