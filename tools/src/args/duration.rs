//! Durations on the command line: `500ms`, `5s`, `1.5m`; a bare number is in seconds. Some options are in minutes alone.

use std::time::Duration;

use crate::limits::MINUTES_MAX;

/// Reads a duration.
///
/// # Errors
/// Says how to write one, for people.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    let malformed = || format!("{text:?} is no duration; write it like 500ms, 5s or 1m");
    let split = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(split);
    let seconds_per_unit = match unit {
        "us" => 1e-6,
        "ms" => 1e-3,
        "s" | "" => 1.0,
        "m" => 60.0,
        "h" => 3600.0,
        _ => return Err(malformed()),
    };
    let number: f64 = number.parse().map_err(|_| malformed())?;
    let duration = Duration::try_from_secs_f64(number * seconds_per_unit).map_err(|_| malformed())?;
    if duration.is_zero() {
        Err(format!("{text:?} is too short; it must be longer than nothing"))
    } else {
        Ok(duration)
    }
}

/// Reads a number of minutes: how long a run lasts.
///
/// # Errors
/// Says which numbers are taken, for people.
pub(crate) fn parse_minutes(text: &str) -> Result<Duration, String> {
    let minutes: Option<f64> = text.parse().ok();
    let duration = minutes
        .filter(|minutes| *minutes <= MINUTES_MAX)
        .and_then(|minutes| Duration::try_from_secs_f64(minutes * 60.0).ok().filter(|duration| !duration.is_zero()));
    duration.ok_or_else(|| format!("{text:?} is no number of minutes; write one above 0, up to {MINUTES_MAX}"))
}
