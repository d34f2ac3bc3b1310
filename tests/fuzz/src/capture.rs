//! The capture reader. Packets are counted from 1, come from inside the file, and in order.
#![no_main]

use libfuzzer_sys::fuzz_target;
use sipguard::capture::{self, CaptureError};

fuzz_target!(|file: &[u8]| {
    let mut count = 0;
    let mut position = 0;
    let end = capture::read::<CaptureError>(file, |packet| {
        count += 1;
        assert_eq!(packet.number, count);
        assert!(packet.position > position && packet.position <= file.len() as u64);
        assert!(packet.bytes.len() <= file.len());
        position = packet.position;
        Ok(())
    });
    if let Err(error) = end {
        assert!(!error.to_string().contains('\n'));
    }
});
