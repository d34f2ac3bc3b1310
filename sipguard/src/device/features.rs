//! Whether a driver has native XDP at all, as it says itself (the `netdev` family of generic netlink, Linux 6.3 and later).

use std::io;

use netlink_packet_core::{
    DecodeError, DefaultNla, Emitable, NLM_F_ACK, Nla as _, NlasIterator, Parseable as _,
    ParseableParametrized,
};
use netlink_packet_generic::{
    GenlFamily, GenlHeader, GenlMessage,
    ctrl::{GenlCtrl, GenlCtrlCmd, nlas::GenlCtrlAttrs},
};
use netlink_sys::protocols::NETLINK_GENERIC;

use super::netlink::ask;

/// What a driver says of native XDP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NativeXdp {
    /// It takes programs, as it is set up now.
    Yes,
    /// It does not, as it is set up now; some drivers say so only while an offload is on or the MTU is large.
    No,
}

impl NativeXdp {
    /// What the driver of an interface says; `None` where the kernel does not tell.
    #[must_use]
    pub fn of(index: u32) -> Option<Self> {
        let family = family(Netdev::family_name()).ok()??;
        let request = Netdev {
            index: Some(index),
            features: None,
        };
        let mut request = GenlMessage::from_payload(request);
        request.set_resolved_family_id(family);
        let answers = ask(NETLINK_GENERIC, request, NLM_F_ACK).ok()?;
        let features = answers.iter().find_map(|answer| answer.payload.features)?;
        Some(if features & BASIC == 0 {
            Self::No
        } else {
            Self::Yes
        })
    }
}

/// `NETDEV_XDP_ACT_BASIC`, include/uapi/linux/netdev.h: the verdicts of every program.
const BASIC: u64 = 1 << 0;

/// A family's number, which is another one on every boot; `None` where this kernel has none.
pub(super) fn family(name: &str) -> io::Result<Option<u16>> {
    let request = GenlCtrl {
        cmd: GenlCtrlCmd::GetFamily,
        nlas: vec![GenlCtrlAttrs::FamilyName(name.to_owned())],
    };
    let answers = ask(
        NETLINK_GENERIC,
        GenlMessage::from_payload(request),
        NLM_F_ACK,
    )?;
    let mut attributes = answers.iter().flat_map(|answer| &answer.payload.nlas);
    Ok(attributes.find_map(|attribute| match attribute {
        GenlCtrlAttrs::FamilyId(number) => Some(*number),
        _ => None,
    }))
}

/// `NETDEV_CMD_DEV_GET` and the answer to it, include/uapi/linux/netdev.h.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Netdev {
    index: Option<u32>,
    features: Option<u64>,
}

impl Netdev {
    const INDEX: u16 = 1;
    const FEATURES: u16 = 3;

    fn attribute(&self) -> Option<DefaultNla> {
        self.index
            .map(|index| DefaultNla::new(Self::INDEX, index.to_ne_bytes().into()))
    }
}

impl GenlFamily for Netdev {
    fn family_name() -> &'static str {
        "netdev"
    }

    fn command(&self) -> u8 {
        1
    }

    fn version(&self) -> u8 {
        1
    }
}

impl Emitable for Netdev {
    fn buffer_len(&self) -> usize {
        self.attribute().as_slice().buffer_len()
    }

    fn emit(&self, buffer: &mut [u8]) {
        self.attribute().as_slice().emit(buffer);
    }
}

impl ParseableParametrized<[u8], GenlHeader> for Netdev {
    fn parse_with_param(bytes: &[u8], _: GenlHeader) -> Result<Self, DecodeError> {
        let mut found = Self {
            index: None,
            features: None,
        };
        for attribute in NlasIterator::new(bytes) {
            let attribute = DefaultNla::parse(&attribute?)?;
            let mut value = vec![0; attribute.value_len()];
            attribute.emit_value(&mut value);
            match attribute.kind() {
                Self::INDEX => found.index = value.try_into().ok().map(u32::from_ne_bytes),
                Self::FEATURES => found.features = value.try_into().ok().map(u64::from_ne_bytes),
                _ => {}
            }
        }
        Ok(found)
    }
}
