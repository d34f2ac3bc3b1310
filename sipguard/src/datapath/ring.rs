//! One processor's ring, into which the kernel writes events without waking anybody.

use std::{
    io,
    mem::zeroed,
    os::fd::{AsFd as _, AsRawFd as _, FromRawFd as _, OwnedFd},
};

use aya::maps::{
    MapData, PerfEventArray,
    perf::{PerfBufferError, PerfEvent, PerfEventArrayBuffer},
};
use aya_obj::generated::{
    PERF_EVENT_IOC_SET_OUTPUT, PERF_FLAG_FD_CLOEXEC, perf_event_attr,
    perf_event_sample_format::PERF_SAMPLE_RAW, perf_sw_ids::PERF_COUNT_SW_BPF_OUTPUT,
    perf_type_id::PERF_TYPE_SOFTWARE,
};

use super::table::Table;

/// A ring of aya's, which it reads, and an event of ours in its place in the map, which writes there. With aya's own the kernel wakes a reader for each
/// event: an interrupt that the processor sends itself, an eighth of its time in a flood. We read by the clock.
pub(super) struct Ring {
    ring: PerfEventArrayBuffer<MapData>,
    _writer: OwnedFd,
}

impl Ring {
    /// `places` is the map of `rings`; what is in it goes with the descriptor that it was put in by.
    pub(super) fn open(
        rings: &mut PerfEventArray<MapData>,
        places: &Table<u32, u32>,
        processor: u32,
        pages: usize,
    ) -> Result<Self, PerfBufferError> {
        let ring = rings.open(processor, Some(pages))?;
        let put = || {
            let writer = writer(processor)?;
            // SAFETY: the request takes a descriptor.
            let result = unsafe {
                libc::ioctl(
                    writer.as_raw_fd(),
                    PERF_EVENT_IOC_SET_OUTPUT.into(),
                    ring.as_fd().as_raw_fd(),
                )
            };
            if result < 0 {
                return Err(io::Error::last_os_error());
            }
            places.set(&processor, &writer.as_raw_fd().cast_unsigned())?;
            Ok(writer)
        };
        let writer = put().map_err(|io_error| PerfBufferError::OpenError { io_error })?;
        Ok(Self {
            ring,
            _writer: writer,
        })
    }

    /// Hands on all that was written since.
    pub(super) fn for_each(&mut self, each: impl FnMut(PerfEvent<'_>)) {
        self.ring.for_each(each);
    }
}

/// An event that a program on this processor writes, and that wakes nobody: neither a number of events nor of bytes is said at which it should.
pub(super) fn writer(processor: u32) -> io::Result<OwnedFd> {
    // SAFETY: all bytes of it are numbers.
    let mut attributes: perf_event_attr = unsafe { zeroed() };
    attributes.type_ = PERF_TYPE_SOFTWARE as u32;
    attributes.size = u32::try_from(size_of::<perf_event_attr>()).map_err(io::Error::other)?;
    attributes.config = PERF_COUNT_SW_BPF_OUTPUT as u64;
    attributes.sample_type = PERF_SAMPLE_RAW as u64;
    attributes.__bindgen_anon_1.sample_period = 1;
    // SAFETY: the attributes are as long as they say.
    let descriptor = unsafe {
        libc::syscall(
            libc::SYS_perf_event_open,
            &raw const attributes,
            // Of all processes.
            -1,
            processor,
            // In no group.
            -1,
            PERF_FLAG_FD_CLOEXEC,
        )
    };
    if descriptor < 0 {
        return Err(io::Error::last_os_error());
    }
    let descriptor = i32::try_from(descriptor).map_err(io::Error::other)?;
    // SAFETY: the kernel has just made it for us.
    Ok(unsafe { OwnedFd::from_raw_fd(descriptor) })
}
