//! How long, and until when: durations and times as people write them on the command line.

use jiff::{
    SignedDuration, Span, SpanRelativeTo, Timestamp, Unit, Zoned,
    civil::{DateTime, Time},
    tz::TimeZone,
};
use thiserror::Error;

use crate::prefix::Excerpt;

/// The longest time there is to wait for: what is meant to last longer has no end.
pub const LONGEST: SignedDuration = SignedDuration::from_hours(10 * 365 * 24);

/// Why a text is no duration or time that could be meant.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum WhenError {
    /// It can't be read as a duration.
    #[error("{0} is not a duration; write for example 90s, 15m, 2h, 1h30m or 7d")]
    NotADuration(Excerpt),
    /// It is a number alone.
    #[error("{0} has no unit; write {0}s, {0}m, {0}h or {0}d for seconds, minutes, hours or days")]
    NoUnit(Excerpt),
    /// Months and years are not always of one length.
    #[error("{0} has no fixed length; write days, such as 30d or 365d")]
    Calendar(Excerpt),
    /// It is over before it begins.
    #[error("{0} is less than a second; write for example 90s, 2h or 7d")]
    TooShort(Excerpt),
    /// It is more than [`LONGEST`].
    #[error(
        "{0} is more than 10 years away; what is to last so long needs no end, so leave it out"
    )]
    TooLong(Excerpt),
    /// It can't be read as a time.
    #[error(
        "{0} is not a time; write for example 18:00, '2026-12-24 18:00' (by the clock of this host) or 2026-12-24T18:00:00Z"
    )]
    NotATime(Excerpt),
    /// It is a day alone.
    #[error("{0} is a whole day; write the time, too: '{0} 18:00'")]
    NoTime(Excerpt),
    /// It is over.
    #[error("{text} is in the past: it is {now} now; write a later time, or how long with --for")]
    Past {
        /// What was written.
        text: Excerpt,
        /// The local time.
        now: String,
    },
}

/// How long: `90s`, `1h30m`, `7d`; between a second and [`LONGEST`].
pub fn duration(text: &str) -> Result<SignedDuration, WhenError> {
    let text = text.trim();
    let excerpt = || Excerpt::of(text);
    if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(WhenError::NoUnit(Excerpt::bare(text)));
    }
    let span: Span = match text.parse() {
        Ok(span) => span,
        // Numbers that no span can hold are durations all the same.
        Err(_) if is_huge(text) => return Err(WhenError::TooLong(excerpt())),
        Err(_) => return Err(WhenError::NotADuration(excerpt())),
    };
    if span.get_years() != 0 || span.get_months() != 0 {
        return Err(WhenError::Calendar(excerpt()));
    }
    let duration = span
        .to_duration(SpanRelativeTo::days_are_24_hours())
        .map_err(|_| WhenError::TooLong(excerpt()))?;
    if duration < SignedDuration::from_secs(1) {
        Err(WhenError::TooShort(excerpt()))
    } else if duration > LONGEST {
        Err(WhenError::TooLong(excerpt()))
    } else {
        Ok(duration)
    }
}

/// Whether a text would be a duration if its numbers were smaller.
fn is_huge(text: &str) -> bool {
    let mut small = String::new();
    let mut digits = 0;
    for letter in text.chars() {
        digits = if letter.is_ascii_digit() {
            digits + 1
        } else {
            0
        };
        if digits < 3 {
            small.push(letter);
        }
    }
    small.len() < text.len() && small.parse::<Span>().is_ok()
}

/// Until when: RFC 3339 with its offset, a day and time by the local clock, or a time alone, which is the next such. Within
/// [`LONGEST`] after `now`, in whose time zone local times are.
pub fn moment(text: &str, now: &Zoned) -> Result<Timestamp, WhenError> {
    let text = text.trim();
    let excerpt = || Excerpt::of(text);
    let moment = if let Ok(moment) = text.parse::<Timestamp>() {
        moment
    } else if let Ok(local) = text.parse::<DateTime>() {
        if !text.contains(':') {
            return Err(WhenError::NoTime(Excerpt::bare(text)));
        }
        in_zone(local, now.time_zone()).ok_or_else(|| WhenError::TooLong(excerpt()))?
    } else if let Some(time) = time_of_day(text) {
        next(time, now).ok_or_else(|| WhenError::NotATime(excerpt()))?
    } else {
        return Err(WhenError::NotATime(excerpt()));
    };
    let left = moment.duration_since(now.timestamp());
    if left <= SignedDuration::ZERO {
        Err(WhenError::Past {
            text: excerpt(),
            now: now.strftime("%Y-%m-%d %H:%M").to_string(),
        })
    } else if left > LONGEST {
        Err(WhenError::TooLong(excerpt()))
    } else {
        Ok(moment)
    }
}

fn time_of_day(text: &str) -> Option<Time> {
    // A number alone could be an hour or a year.
    text.parse().ok().filter(|_| text.contains(':'))
}

/// A time that the clocks leave out in spring is as much later as they are put forward.
fn in_zone(local: DateTime, zone: &TimeZone) -> Option<Timestamp> {
    Some(local.to_zoned(zone.clone()).ok()?.timestamp())
}

/// Today or tomorrow.
fn next(time: Time, now: &Zoned) -> Option<Timestamp> {
    let today = in_zone(now.date().to_datetime(time), now.time_zone())?;
    if today > now.timestamp() {
        return Some(today);
    }
    in_zone(
        now.date().tomorrow().ok()?.to_datetime(time),
        now.time_zone(),
    )
}

/// The moment a duration from now, to the millisecond.
pub fn after(duration: SignedDuration, now: Timestamp) -> Timestamp {
    // A clock at the end of time gets its last moment.
    let end = now.checked_add(duration).unwrap_or(Timestamp::MAX);
    end.round(Unit::Millisecond).unwrap_or(end)
}

#[cfg(test)]
mod tests;
