//! The wall clock as text: UTC, ISO 8601, to the second.

/// `2026-11-23T02:15:00Z` for nanoseconds since the Unix epoch.
pub(crate) fn utc(wall_ns: u64) -> String {
    let seconds = wall_ns / 1_000_000_000;
    let (days, rest) = (seconds / 86_400, seconds % 86_400);
    // Days to a civil date, in eras of 400 years that begin on a 1st of March (H. Hinnant, chrono-compatible algorithms).
    let shifted = days + 719_468;
    let (era, day) = (shifted / 146_097, shifted % 146_097);
    let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let day = day - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    let year = year + era * 400 + u64::from(month <= 2);
    format!("{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}Z", rest / 3_600, rest / 60 % 60, rest % 60)
}

#[cfg(test)]
mod tests {
    use super::utc;

    #[test]
    fn dates() {
        for (seconds, text) in [
            (0, "1970-01-01T00:00:00Z"),
            (951_782_400, "2000-02-29T00:00:00Z"),
            (1_709_251_199, "2024-02-29T23:59:59Z"),
            (1_795_400_100, "2026-11-23T02:15:00Z"),
            (4_107_542_400, "2100-03-01T00:00:00Z"),
            (u64::MAX / 1_000_000_000, "2554-07-21T23:34:33Z"),
        ] {
            assert_eq!(utc(seconds * 1_000_000_000), text);
        }
    }
}
