//! What the system's allocator is told before a server starts.

/// From this size on an allocation is pages of its own, which go back when it ends.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
const OWN_PAGES_OCTETS: i32 = 1 << 20;
/// Free octets at the end of the heap that are kept for the next rush.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
const KEPT_OCTETS: i32 = 4 << 20;

/// Has glibc give large buffers pages of their own, always.
///
/// By itself it stops doing so as soon as the first one is given back. The engine takes and gives
/// segments of 8 MiB all the time; they then lie among small things that stay, leave holes, and a
/// rush of 100,000 registrations keeps 50 MB that nobody uses (docs/PERFORMANCE.md).
#[cfg(all(target_os = "linux", target_env = "gnu"))]
#[expect(unsafe_code, reason = "mallopt is C; two numbers go in, and no memory is touched")]
pub(super) fn give_back_large_buffers() {
    // SAFETY: mallopt may be called at any time by any thread; it takes no pointers. What it
    // answers does not matter: without it all goes on as before.
    unsafe {
        libc::mallopt(libc::M_MMAP_THRESHOLD, OWN_PAGES_OCTETS);
        libc::mallopt(libc::M_TRIM_THRESHOLD, KEPT_OCTETS);
    }
}

/// Other allocators are left as they are.
#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
pub(super) fn give_back_large_buffers() {}
