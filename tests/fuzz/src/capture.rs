//! The capture reader, compressed or not. Packets are counted from 1, and no longer than what there is or can be made of it.
#![no_main]

use libfuzzer_sys::fuzz_target;
use sipguard::capture::{self, CaptureError, LONGEST};

fuzz_target!(|file: &[u8]| {
    let is_packed = file.starts_with(&[0x1f, 0x8b]) || file.starts_with(&[0x28, 0xb5, 0x2f, 0xfd]);
    let mut count = 0;
    let mut scratch = Vec::new();
    let end = capture::read::<CaptureError>(file, |packet| {
        count += 1;
        assert_eq!(packet.number, count);
        let _ = packet.time.and_then(capture::Time::timestamp);
        match packet.frame {
            Ok(frame) => {
                // Addresses that an export has beside the packet become a header.
                assert!(frame.bytes.len() <= LONGEST + 40);
                assert!(is_packed || frame.bytes.len() <= file.len() + 40);
                let _ = frame.addresses();
                let whole = frame.with_ethernet(&mut scratch).len();
                assert_eq!(whole, frame.bytes.len() + frame.ethernet_added());
            }
            Err(why) => assert!(!why.to_string().contains('\n')),
        }
        Ok(())
    });
    if let Err(error) = end {
        assert!(!error.to_string().contains('\n'));
    }
});
