//! Why interfaces are not filtered in their drivers, kept for `status`: the kernel does not.

use crate::{datapath::Switched, state::State};

/// Notes why interfaces that were switched are not filtered in their drivers, or that they are.
pub(super) fn note_fallbacks(state: &mut State, switched: &[(String, Switched)]) {
    for (interface, switched) in switched {
        if switched.hook.is_some() {
            match &switched.fallback {
                Some(cause) => state.fallbacks.insert(interface.clone(), cause.clone()),
                None => state.fallbacks.remove(interface),
            };
        }
    }
}
