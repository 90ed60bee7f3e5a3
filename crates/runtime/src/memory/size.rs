//! Sizes as people write them.

/// Reads a number of bytes: `900M`, `1.5G`, `64Ki`, `1000`, with or without a `B` at the end. K, M and G are powers of 1000,
/// Ki, Mi and Gi powers of 1024.
///
/// # Errors
/// A message that says how sizes are written.
pub fn parse_size(text: &str) -> Result<u64, String> {
    let text = text.trim();
    let start = text.find(|c: char| !c.is_ascii_digit() && c != '.');
    let (number, unit) = text.split_at(start.unwrap_or(text.len()));
    let unit = unit.trim().to_ascii_lowercase();
    let unit = unit.strip_suffix('b').unwrap_or(&unit);
    let factor: u64 = match unit {
        "" => 1,
        "k" => 1_000,
        "m" => 1_000_000,
        "g" => 1_000_000_000,
        "ki" => 1 << 10,
        "mi" => 1 << 20,
        "gi" => 1 << 30,
        _ => {
            return Err(format!(
                "`{text}` is not a size such as 900M, 1.5G or 800Mi"
            ));
        }
    };
    let bytes = number
        .parse::<f64>()
        .ok()
        .map(|number| number * factor as f64);
    match bytes {
        Some(bytes) if (1.0..1e18).contains(&bytes) => Ok(bytes as u64),
        _ => Err(format!(
            "`{text}` is not a size such as 900M, 1.5G or 800Mi"
        )),
    }
}

/// Bytes in decimal units.
pub fn format_size(bytes: u64) -> String {
    let bytes = bytes as f64;
    match bytes {
        ..1e3 => format!("{bytes} B"),
        ..1e6 => format!("{:.1} kB", bytes / 1e3),
        ..1e9 => format!("{:.1} MB", bytes / 1e6),
        _ => format!("{:.2} GB", bytes / 1e9),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_decimal_and_binary_units() {
        for (text, bytes) in [
            ("900M", 900_000_000),
            ("900MB", 900_000_000),
            ("1.5g", 1_500_000_000),
            ("64Ki", 65_536),
            ("2 GiB", 2 << 30),
            ("3Mi", 3 << 20),
            ("12k", 12_000),
            ("77", 77),
        ] {
            assert_eq!(parse_size(text), Ok(bytes), "{text}");
        }
        for text in [
            "",
            "M",
            "-1M",
            "1T",
            "0",
            "1.2.3M",
            "1e3",
            "nan",
            "9999999999G",
        ] {
            assert!(parse_size(text).unwrap_err().contains("900M"), "{text}");
        }
    }

    #[test]
    fn sizes_are_shown_with_four_digits() {
        let shown = [7, 1500, 2_500_000, 1_234_000_000].map(format_size);
        assert_eq!(shown, ["7 B", "1.5 kB", "2.5 MB", "1.23 GB"]);
    }
}
