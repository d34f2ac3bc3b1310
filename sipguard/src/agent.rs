//! What has to stay awake to see what comes and goes: it reads what the kernel tells, and says what happened. The filter needs none of it.

pub mod happened;
pub mod journal;
