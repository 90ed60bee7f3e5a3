//! `strftime_now`: the local time in the words of C's `strftime`.

use std::time::{SystemTime, UNIX_EPOCH};

use crate::os;

const DAYS: [&str; 7] = [
    "Sunday",
    "Monday",
    "Tuesday",
    "Wednesday",
    "Thursday",
    "Friday",
    "Saturday",
];
const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];

/// The local time at `now` in a format of C's `strftime`, in English.
pub(super) fn strftime(format: &str, now: SystemTime) -> String {
    let seconds = match now.duration_since(UNIX_EPOCH) {
        Ok(after) => i64::try_from(after.as_secs()).unwrap_or(i64::MAX),
        Err(before) => i64::try_from(before.duration().as_secs()).map_or(i64::MIN, |s| -s),
    };
    strftime_at(format, seconds.saturating_add(os::utc_offset(seconds)))
}

/// The same for seconds since 1970 in local time.
fn strftime_at(format: &str, seconds: i64) -> String {
    let time = Civil::new(seconds);
    let mut out = String::new();
    let mut chars = format.chars();
    while let Some(c) = chars.next() {
        if c != '%' {
            out.push(c);
            continue;
        }
        let mut directive = chars.next().unwrap_or('%');
        let unpadded = directive == '-';
        if unpadded {
            directive = chars.next().unwrap_or('%');
        }
        time.write(directive, unpadded, &mut out);
    }
    out
}

/// A date and time of day.
struct Civil {
    year: i64,
    /// 0 is January.
    month: usize,
    /// From 1.
    day: i64,
    /// 0 is Sunday.
    weekday: usize,
    /// From 1.
    day_of_year: i64,
    hour: i64,
    minute: i64,
    second: i64,
}

impl Civil {
    fn new(seconds: i64) -> Self {
        let days = seconds.div_euclid(86_400);
        let time = seconds.rem_euclid(86_400);
        // Years of 365.2425 days that begin on March 1st, counted from March 1st of year 0.
        let shifted = days.saturating_add(719_468);
        let era = shifted.div_euclid(146_097);
        let day_of_era = shifted.rem_euclid(146_097);
        let year_of_era =
            (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
        let from_march = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let month_from_march = (5 * from_march + 2) / 153;
        let month = (month_from_march + 2) % 12;
        let year = era * 400 + year_of_era + i64::from(month < 2);
        let leap = i64::from(year % 4 == 0 && (year % 100 != 0 || year % 400 == 0));
        Self {
            year,
            month: usize::try_from(month).unwrap_or(0),
            day: from_march - (153 * month_from_march + 2) / 5 + 1,
            weekday: usize::try_from((days + 4).rem_euclid(7)).unwrap_or(0),
            day_of_year: if month < 2 {
                from_march - 305
            } else {
                from_march + 60 + leap
            },
            hour: time / 3600,
            minute: time / 60 % 60,
            second: time % 60,
        }
    }

    fn write(&self, directive: char, unpadded: bool, out: &mut String) {
        let mut number = |value: i64, width: usize, fill: char| {
            let text = value.to_string();
            if !unpadded {
                out.extend(std::iter::repeat_n(fill, width.saturating_sub(text.len())));
            }
            out.push_str(&text);
        };
        let hour12 = (self.hour + 11) % 12 + 1;
        let month = self.month as i64 + 1;
        match directive {
            'Y' => number(self.year, 4, '0'),
            'y' => number(self.year.rem_euclid(100), 2, '0'),
            'm' => number(month, 2, '0'),
            'd' => number(self.day, 2, '0'),
            'e' => number(self.day, 2, ' '),
            'H' => number(self.hour, 2, '0'),
            'I' => number(hour12, 2, '0'),
            'M' => number(self.minute, 2, '0'),
            'S' => number(self.second, 2, '0'),
            'j' => number(self.day_of_year, 3, '0'),
            'w' => number(self.weekday as i64, 1, '0'),
            'u' => number((self.weekday as i64 + 6) % 7 + 1, 1, '0'),
            'A' => out.push_str(DAYS[self.weekday]),
            'a' => out.push_str(&DAYS[self.weekday][..3]),
            'B' => out.push_str(MONTHS[self.month]),
            'b' | 'h' => out.push_str(&MONTHS[self.month][..3]),
            'p' => out.push_str(if self.hour < 12 { "AM" } else { "PM" }),
            'F' => self.write_all("Y-m-d", out),
            'T' | 'X' => self.write_all("H:M:S", out),
            'R' => self.write_all("H:M", out),
            'D' | 'x' => self.write_all("m/d/y", out),
            'c' => self.write_all("a b e H:M:S Y", out),
            '%' => out.push('%'),
            other => out.extend(['%', other]),
        }
    }

    /// Letters are directives, everything else stands for itself.
    fn write_all(&self, directives: &str, out: &mut String) {
        for c in directives.chars() {
            if c.is_ascii_alphabetic() {
                self.write(c, false, out);
            } else {
                out.push(c);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::strftime_at;

    #[test]
    fn known_dates() {
        let all = "%Y-%m-%d %H:%M:%S %a %A %b %B %j %-d %e %I %p %y %w %u %F %T %D %c %% %Q";
        assert_eq!(
            strftime_at(all, 951_786_123),
            "2000-02-29 01:02:03 Tue Tuesday Feb February 060 29 29 01 AM 00 2 2 2000-02-29 \
             01:02:03 02/29/00 Tue Feb 29 01:02:03 2000 % %Q"
        );
        assert_eq!(
            strftime_at("%d %b %Y, %j", 1_735_603_200),
            "31 Dec 2024, 366"
        );
        assert_eq!(
            strftime_at("%d %b %Y, %j", 1_735_689_600),
            "01 Jan 2025, 001"
        );
        assert_eq!(strftime_at("%F %a %-j", -86_400), "1969-12-31 Wed 365");
        assert_eq!(
            strftime_at("%F %-I%p", 4_107_542_400 + 12 * 3600),
            "2100-03-01 12PM"
        );
    }

    #[test]
    fn dates_follow_each_other() {
        let mut last = strftime_at("%Y%j", -3 * 86_400 * 366);
        for day in -3 * 366 + 1..10 * 366 {
            let date = strftime_at("%Y%j", day * 86_400);
            assert!(date > last, "{date} after {last}");
            last = date;
        }
    }
}
