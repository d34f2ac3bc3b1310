//! The programs that a generation has for each interface.

/// A place where programs meet what comes in. A generation has programs for both, so that an interface can be moved from the one to the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// XDP.
    Xdp,
    /// TC ingress.
    Tc,
}

impl Place {
    /// Both.
    pub(super) const ALL: [Self; 2] = [Self::Xdp, Self::Tc];
}

/// Which of its programs for an interface a generation is to run there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// The filter itself.
    Filter,
    /// The one that hands on to the filter until the deadline.
    Pending,
}
