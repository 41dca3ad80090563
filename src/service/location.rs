//! Where users are: devices and their bindings.

use crate::base::now::{Mono, Now, Unix};
use crate::service::feature::{self, Kind};
use crate::service::record::{BindingGone, BindingPut, DeviceNo};
use crate::stack::transport::{Flow, Protocol};
use crate::syntax::sip::{NameAddr, Params, Uri};

/// The devices of one user, by number.
#[derive(Debug, Default)]
pub struct Location {
    devices: Vec<Device>,
    next: DeviceNo,
}

/// One device: an instance, or a Contact URI where the phone names no instance.
#[derive(Debug)]
pub struct Device {
    /// Its number.
    pub no: DeviceNo,
    /// `+sip.instance`, if it has one.
    pub instance: Option<Box<str>>,
    /// How to talk to it.
    pub kind: Kind,
    /// Where it is, if it is registered.
    pub binding: Option<Binding>,
    /// When it was last heard.
    pub seen: Unix,
    /// Call-ID and CSeq of the REGISTER by which it left. Boxed, because few have it.
    pub left: Option<Box<(Box<str>, u32)>>,
    /// Media types it has refused or said it takes; learned from its answers.
    pub takes: Option<Box<Takes>>,
}

/// Where a device is registered.
#[derive(Debug)]
pub struct Binding {
    /// Contact URI as written.
    pub contact: Box<str>,
    /// Other Contact parameters as written.
    pub params: Box<str>,
    /// The next hop: the flow on which it registered.
    pub flow: Flow,
    /// Call-ID of the registration.
    pub call_id: Box<str>,
    /// CSeq of the last REGISTER.
    pub cseq: u32,
    /// Path values.
    pub path: Box<[String]>,
    /// When the registration runs out.
    pub expires: Mono,
    /// When the lease on disk runs out.
    pub lease: Mono,
}

/// What a device has said about content types.
#[derive(Clone, Debug, Default)]
pub struct Takes {
    /// From Accept in a 415: only these.
    pub only: Vec<String>,
    /// Refused without saying what would be taken.
    pub refused: Vec<String>,
}

impl Device {
    /// CSeq of the last REGISTER with this Call-ID, if the last one had it.
    #[must_use]
    pub fn last_cseq(&self, call_id: &str) -> Option<u32> {
        let last = match (&self.binding, &self.left) {
            (Some(b), _) => (&*b.call_id, b.cseq),
            (None, Some(left)) => (&*left.0, left.1),
            (None, None) => return None,
        };
        (last.0 == call_id).then_some(last.1)
    }
}

impl Location {
    /// All devices, in the order of their numbers.
    pub fn devices(&self) -> impl Iterator<Item = &Device> {
        self.devices.iter()
    }

    /// The device with this number.
    #[must_use]
    pub fn device(&self, no: DeviceNo) -> Option<&Device> {
        self.devices.iter().find(|d| d.no == no)
    }

    /// The device with this number, to change.
    pub fn device_mut(&mut self, no: DeviceNo) -> Option<&mut Device> {
        self.devices.iter_mut().find(|d| d.no == no)
    }

    /// The number the next new device gets.
    #[must_use]
    pub fn next(&self) -> DeviceNo {
        self.next
    }

    /// The device that a Contact means: by instance first, else by URI (RFC 5626 §4, RFC 3261
    /// §10.3).
    #[must_use]
    pub fn matching(&self, instance: Option<&str>, contact: &Uri) -> Option<&Device> {
        if let Some(instance) = instance {
            return self
                .devices
                .iter()
                .find(|d| d.instance.as_deref().is_some_and(|i| i.eq_ignore_ascii_case(instance)));
        }
        self.devices.iter().find(|d| {
            d.instance.is_none()
                && d.binding.as_ref().is_some_and(|b| {
                    Uri::parse(b.contact.as_bytes()).is_ok_and(|uri| uri.same_as(contact))
                })
        })
    }

    /// The device that registered on this flow, if it is one alone.
    #[must_use]
    pub fn on_flow(&self, flow: Flow) -> Option<DeviceNo> {
        let mut found = self.devices.iter().filter(|d| {
            d.binding.as_ref().is_some_and(|b| {
                b.flow.protocol == flow.protocol
                    && b.flow.peer == flow.peer
                    && b.flow.connection == flow.connection
            })
        });
        let first = found.next()?;
        found.next().is_none().then_some(first.no)
    }

    /// When the first binding runs out.
    #[must_use]
    pub fn next_expiry(&self) -> Option<Mono> {
        self.devices.iter().filter_map(|d| d.binding.as_ref()).map(|b| b.expires).min()
    }

    /// Folds a binding: a device that is new, moved or refreshed beyond its lease.
    pub fn put(&mut self, now: Now, put: &BindingPut) {
        self.next = self.next.max(put.device + 1);
        let lease = now.mono.after(now.unix.until(put.lease));
        let binding = Binding {
            contact: put.contact.as_str().into(),
            params: put.params.as_str().into(),
            flow: Flow {
                protocol: if put.flow.tcp { Protocol::Tcp } else { Protocol::Udp },
                listener: put.flow.listener,
                peer: put.flow.peer,
                connection: 0,
            },
            call_id: put.call_id.as_str().into(),
            cseq: put.cseq,
            path: put.path.as_slice().into(),
            // After a restart the lease is all that is known.
            expires: lease,
            lease,
        };
        let kind = feature::kind(&params(&put.params));
        if let Some(device) = self.device_mut(put.device) {
            if device.binding.as_ref().is_none_or(|b| b.contact != binding.contact) {
                device.takes = None;
            }
            device.kind = kind;
            device.seen = put.seen;
            device.binding = Some(binding);
            device.left = None;
            return;
        }
        // Most users have one, and room for four would be most of what a user takes.
        self.devices.reserve_exact(1);
        self.devices.push(Device {
            no: put.device,
            instance: put.instance.as_deref().map(Box::from),
            kind,
            binding: Some(binding),
            seen: put.seen,
            left: None,
            takes: None,
        });
    }

    /// Adds to a fresh binding what its record cannot hold: the connection it came on, and how long
    /// was granted.
    pub fn settle(&mut self, no: DeviceNo, flow: Flow, expires: Mono) {
        if let Some(binding) = self.device_mut(no).and_then(|d| d.binding.as_mut()) {
            binding.flow = flow;
            binding.expires = expires;
        }
    }

    /// Folds the end of a registration. A device without an instance is gone with its binding.
    pub fn unbind(&mut self, gone: &BindingGone) {
        let no = gone.device;
        self.devices.retain_mut(|d| {
            if d.no == no {
                d.binding = None;
                d.left = gone.by.as_ref().map(|(id, cseq)| Box::new((id.as_str().into(), *cseq)));
            }
            d.no != no || d.instance.is_some()
        });
    }

    /// Folds the end of the account. Numbers are not used again.
    pub fn close(&mut self) {
        self.devices.clear();
    }

    /// Folds that a device is forgotten.
    pub fn forget(&mut self, no: DeviceNo) {
        self.devices.retain(|d| d.no != no);
    }
}

/// Contact parameters from the way they are kept.
fn params(text: &str) -> Params {
    NameAddr::parse(format!("<sip:x@x>{text}").as_bytes()).map(|n| n.params).unwrap_or_default()
}
