//! Tables as aligned text and as Markdown.

/// Cells by row; the first row is the titles.
#[derive(Debug, Default)]
pub(super) struct Cells(pub(super) Vec<Vec<String>>);

impl Cells {
    /// Columns side by side: the first two to the left, numbers to the right.
    pub(super) fn aligned(&self) -> String {
        let columns = self.0.iter().map(Vec::len).max().unwrap_or(0);
        let width = |column| {
            // A remark in place of figures takes the room of all of them.
            let full = self
                .0
                .iter()
                .filter(|row| row.len() == columns || column == 0);
            let cells = full.filter_map(|row| row.get(column));
            cells
                .map(|cell: &String| cell.chars().count())
                .max()
                .unwrap_or(0)
        };
        let widths: Vec<usize> = (0..columns).map(width).collect();
        let mut text = String::new();
        for row in &self.0 {
            let mut line = String::new();
            for (column, (cell, width)) in row.iter().zip(&widths).enumerate() {
                match column {
                    0 => line += &format!("{cell:width$}"),
                    1 => line += &format!("  {cell:width$}"),
                    _ => line += &format!("  {cell:>width$}"),
                }
            }
            text += line.trim_end();
            text.push('\n');
        }
        text
    }

    /// As Markdown.
    pub(super) fn markdown(&self) -> String {
        let mut text = String::new();
        for (index, row) in self.0.iter().enumerate() {
            let cells: Vec<String> = row.iter().map(|cell| cell.replace('|', "\\|")).collect();
            text += &format!("| {} |\n", cells.join(" | "));
            if index == 0 {
                text += &format!("|{}\n", "---|".repeat(row.len()));
            }
        }
        text
    }
}

/// A number with three or more digits that count.
pub(super) fn short(value: f64) -> String {
    match value.abs() {
        x if x >= 100.0 => format!("{value:.0}"),
        x if x >= 10.0 => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned() {
        let row = |cells: [&str; 3]| cells.map(str::to_owned).to_vec();
        let mut cells = Cells(vec![row(["name", "how", "ms"]), row(["a|b", "t2", "12.5"])]);
        assert_eq!(cells.aligned(), "name  how    ms\na|b   t2   12.5\n");
        assert_eq!(
            cells.markdown(),
            "| name | how | ms |\n|---|---|---|\n| a\\|b | t2 | 12.5 |\n"
        );
        cells.0.push(vec!["c".into(), "a long remark".into()]);
        assert!(cells.aligned().ends_with("12.5\nc     a long remark\n"));
    }
}
