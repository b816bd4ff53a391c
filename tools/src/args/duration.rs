//! Durations on the command line: `500ms`, `5s`, `1.5m`; a bare number is in seconds.

use std::time::Duration;

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
