//! TC ingress before Linux 6.6, which has no links there: a filter of the qdisc `clsact`, whose direct action is our program's. The filter
//! holds the program without a pin, and is found again by its place and its name.
//!
//! The qdisc stays where it is when we leave: it does nothing by itself, and by then it may be somebody else's, too.

use std::{ffi::CStr, io, mem};

use aya::programs::{
    Link as _, ProgramError, SchedClassifier, TcAttachType,
    tc::{NlOptions, SchedClassifierLink, TcAttachOptions, TcHandle as Handle, qdisc_add_clsact},
};
use netlink_packet_core::{
    DecodeError, Emitable as _, NLM_F_DUMP, NetlinkDeserializable, NetlinkHeader, NetlinkPayload,
    NetlinkSerializable, NlasIterator,
};
use netlink_packet_route::tc::{TcHandle, TcHeader, TcMessage};
use netlink_sys::protocols::NETLINK_ROUTE;

use super::{Error, LinkError, errno};
use crate::device::{Device, netlink::ask};

/// Before all others; of filters with the same priority the newest is first (`cls_bpf_change` in net/sched/cls_bpf.c).
const PRIORITY: u16 = 1;
/// Which of the filters with that priority is ours: the first of these, and the other one while it takes the first one's place.
const HANDLES: [u32; 2] = [0x5349_5047, 0x5349_5048];
/// What our programs are called, and by it the filter.
const NAMES: [&str; 2] = ["filter_tc", "pending_tc"];

/// include/uapi/linux/pkt_sched.h: `TC_H_CLSACT` and `TC_H_MIN_INGRESS`.
const INGRESS: TcHandle = TcHandle {
    major: 0xffff,
    minor: 0xfff2,
};
/// The size of what stands before them, struct tcmsg of include/uapi/linux/rtnetlink.h.
const HEADER: usize = 20;
/// include/uapi/linux/rtnetlink.h and pkt_cls.h: attributes of a filter, and of one of the kind `bpf`.
const KIND: u16 = 1;
const OPTIONS: u16 = 2;
const BPF_NAME: u16 = 7;
const BPF_ID: u16 = 11;

/// A filter of the kind `bpf`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Filter {
    handle: u32,
    priority: u16,
    name: String,
    /// The program's number in the kernel.
    pub(super) program: u32,
}

impl Filter {
    fn is_own(&self) -> bool {
        self.priority == PRIORITY
            && HANDLES.contains(&self.handle)
            && NAMES.contains(&self.name.as_str())
    }
}

/// The filters of the kind `bpf` at a device's ingress, in the order in which they run.
fn filters(index: u32) -> Result<Vec<Filter>, Error> {
    let mut request = TcMessage::with_index(index.cast_signed());
    request.header.parent = INGRESS;
    match ask(NETLINK_ROUTE, Message::Ask(request), NLM_F_DUMP).map_err(io::Error::from) {
        Ok(answers) => Ok(answers
            .into_iter()
            .filter_map(|answer| match answer {
                Message::Filter(filter) => Some(filter),
                _ => None,
            })
            .collect()),
        // A kernel without filters.
        Err(error) if error.raw_os_error() == Some(libc::EOPNOTSUPP) => Ok(Vec::new()),
        Err(error) => Err(Error::io("can't ask for the filters at TC ingress", &error)),
    }
}

/// What is asked and answered of filters. Answers are read here, because what is said of other kinds is no business of ours, however odd.
#[derive(Debug)]
enum Message {
    Ask(TcMessage),
    Filter(Filter),
    Other,
}

impl NetlinkSerializable for Message {
    fn message_type(&self) -> u16 {
        /// `RTM_GETTFILTER`, include/uapi/linux/rtnetlink.h.
        const GET: u16 = 46;
        GET
    }

    fn buffer_len(&self) -> usize {
        match self {
            Self::Ask(message) => message.buffer_len(),
            _ => 0,
        }
    }

    fn serialize(&self, buffer: &mut [u8]) {
        if let Self::Ask(message) = self {
            message.emit(buffer);
        }
    }
}

impl NetlinkDeserializable for Message {
    type Error = DecodeError;

    fn deserialize(_: &NetlinkHeader, message: &[u8]) -> Result<Self, DecodeError> {
        Ok(filter(message)?.map_or(Self::Other, Self::Filter))
    }
}

impl From<Message> for NetlinkPayload<Message> {
    fn from(message: Message) -> Self {
        Self::InnerMessage(message)
    }
}

/// What a message says of a filter of the kind `bpf`.
fn filter(message: &[u8]) -> Result<Option<Filter>, DecodeError> {
    let header = TcHeader::parse(message)?;
    let mut filter = Filter {
        handle: u32::from(header.handle.major) << 16 | u32::from(header.handle.minor),
        // The upper half; the lower one is the protocol.
        priority: (header.info >> 16) as u16,
        ..Filter::default()
    };
    let mut is_bpf = false;
    for attribute in NlasIterator::new(&message[HEADER..]) {
        let attribute = attribute?;
        match attribute.kind() {
            KIND => is_bpf = attribute.value() == b"bpf\0",
            OPTIONS if is_bpf => {
                for option in NlasIterator::new(attribute.value()) {
                    let option = option?;
                    match (option.kind(), option.value()) {
                        (BPF_NAME, name) => {
                            let name = CStr::from_bytes_until_nul(name).unwrap_or_default();
                            filter.name = name.to_string_lossy().into_owned();
                        }
                        (BPF_ID, &[a, b, c, d]) => {
                            filter.program = u32::from_ne_bytes([a, b, c, d]);
                        }
                        _ => {}
                    }
                }
            }
            _ => {}
        }
    }
    // Each kind has an entry without a program, too, for the priority itself.
    Ok((is_bpf && filter.program != 0).then_some(filter))
}

/// The programs at a device's ingress, by their numbers, in the order in which they run.
pub(super) fn line(index: u32) -> Result<Vec<u32>, Error> {
    Ok(filters(index)?
        .into_iter()
        .map(|filter| filter.program)
        .collect())
}

/// Our filter on a device, if it is there.
pub(super) fn own(index: u32) -> Result<Option<Filter>, Error> {
    Ok(filters(index)?.into_iter().find(Filter::is_own))
}

/// As [`super::tc::put`] has it.
pub(super) fn put(program: &mut SchedClassifier, device: &Device) -> Result<(), LinkError> {
    let refused = |error: ProgramError| match errno(&error) {
        // Another kind of filter, or one for a single protocol, has the priority.
        Some(libc::EINVAL | libc::EEXIST) => LinkError::Failed {
            interface: device.name.clone(),
            cause: format!(
                "another filter has the first place at TC ingress (`tc filter show dev {} ingress`, pref {PRIORITY}); give it a later one",
                device.name
            ),
        },
        _ => LinkError::failed(device, &error),
    };
    let filters = filters(device.index)?;
    let own: Vec<_> = filters.iter().filter(|filter| filter.is_own()).collect();
    let attached = match (filters.first(), own.first()) {
        (Some(first), Some(own)) if first == *own => {
            program.attach_to_link(link(device, own.handle)?)
        }
        (_, own) => {
            if let Err(error) = qdisc_add_clsact(&device.name)
                && errno(&error) != Some(libc::EEXIST)
            {
                return Err(LinkError::failed(device, &error));
            }
            let taken = own.map(|own| own.handle);
            let free = HANDLES.into_iter().find(|&handle| Some(handle) != taken);
            let options = NlOptions {
                priority: PRIORITY,
                handle: Handle::from(free.unwrap_or_default()),
                classid: None,
            };
            program.attach_with_options(
                &device.name,
                TcAttachType::Ingress,
                TcAttachOptions::Netlink(options),
            )
        }
    };
    let id = attached.map_err(refused)?;
    let attached = program.take_link(id).map_err(refused)?;
    let in_place = attached.handle().map(u32::from).ok();
    // It is to stay when this process ends.
    mem::forget(attached);
    for filter in own.iter().filter(|own| Some(own.handle) != in_place) {
        end(device, filter)?;
    }
    Ok(())
}

/// Removes our filter from a device.
pub(super) fn remove(device: &Device) -> Result<(), Error> {
    for filter in filters(device.index)?
        .iter()
        .filter(|filter| filter.is_own())
    {
        end(device, filter)?;
    }
    Ok(())
}

fn end(device: &Device, filter: &Filter) -> Result<(), Error> {
    link(device, filter.handle)?
        .detach()
        .map_err(|error| Error::kernel(format!("can't detach from {}", device.name), &error))
}

fn link(device: &Device, handle: u32) -> Result<SchedClassifierLink, Error> {
    let handle = Handle::from(handle);
    SchedClassifierLink::attached(&device.name, TcAttachType::Ingress, PRIORITY, handle, None)
        .map_err(|error| Error::io(format!("can't find {}", device.name), &error))
}
