//! Hints to processor and kernel about a table's memory. They change when
//! things happen, never what: without them everything is the same, and slower.
//!
//! The crate's only unsafe code. Both calls take addresses of memory that the
//! caller lends, read nothing and write nothing.
#![allow(unsafe_code)]

/// Bytes of a cache line.
const LINE: usize = 64;

/// From this size on a buffer gains from huge pages: it fills one whatever its alignment.
const WORTH_HUGE_PAGES: usize = 4 << 20;

/// Asks the processor to have `value` in its cache soon.
#[inline(always)]
pub(super) fn prefetch<T>(value: &T) {
    let start = std::ptr::from_ref(value).cast::<i8>();
    #[cfg(target_arch = "x86_64")]
    // SAFETY: a prefetch has no effect but on caches, at any address; these lie in `value`.
    unsafe {
        use std::arch::x86_64::_MM_HINT_T0;
        use std::arch::x86_64::_mm_prefetch;
        _mm_prefetch::<_MM_HINT_T0>(start);
        // A value of its own alignment lies in one line. Any other begins anywhere in
        // one: all lines that it may lie in are wanted, up to the third.
        if size_of::<T>() > align_of::<T>() {
            let last = size_of::<T>() - 1;
            if last > LINE {
                _mm_prefetch::<_MM_HINT_T0>(start.add(LINE));
            }
            _mm_prefetch::<_MM_HINT_T0>(start.add(last));
        }
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = (start, LINE);
}

/// Asks the kernel to back a large buffer by huge pages: a table that is
/// touched at random otherwise misses the address cache at almost every event.
/// A kernel that does not know or allow it is no reason to do anything else.
pub(super) fn prefer_huge_pages<T>(buffer: &mut Vec<T>) {
    let bytes = buffer.capacity() * size_of::<T>();
    if bytes < WORTH_HUGE_PAGES {
        return;
    }
    let page = rustix::param::page_size();
    let start = buffer.as_mut_ptr().cast::<u8>();
    let skip = start.align_offset(page);
    let whole = whole_pages(bytes, skip, page);
    // SAFETY: `[start + skip, start + skip + whole)` lies in the buffer's own allocation, and
    // this advice changes neither its content nor its mapping.
    let advised = unsafe {
        rustix::mm::madvise(
            start.add(skip).cast(),
            whole,
            rustix::mm::Advice::LinuxHugepage,
        )
    };
    // An old kernel, or one where huge pages are switched off.
    let _ = advised;
}

/// Bytes of the whole pages of `page` bytes that begin `skip` bytes into a buffer of `bytes`.
fn whole_pages(bytes: usize, skip: usize, page: usize) -> usize {
    bytes.saturating_sub(skip) / page * page
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn advice_is_given_about_whole_pages_inside_the_buffer() {
        for (bytes, skip, whole) in [
            (8_192, 0, 8_192),
            (8_192, 1, 4_096),
            (8_191, 0, 4_096),
            (12_000, 100, 8_192),
            (4_095, 0, 0),
            (100, 4_000, 0),
        ] {
            assert_eq!(whole_pages(bytes, skip, 4_096), whole, "{bytes} {skip}");
        }
    }
}
