//! Aligned columns.

/// On which side a column's cells are filled up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Align {
    /// Text.
    Left,
    /// Figures.
    Right,
}

/// Rows under a head, printed with two spaces between columns.
#[derive(Debug)]
pub struct Table {
    columns: Vec<(String, Align)>,
    rows: Vec<Vec<String>>,
}

impl Table {
    /// A table with this head. A name that begins with `>` makes a column of figures.
    pub fn new(head: &[&str]) -> Self {
        let column = |name: &&str| match name.strip_prefix('>') {
            Some(name) => (name.to_owned(), Align::Right),
            None => ((*name).to_owned(), Align::Left),
        };
        Self { columns: head.iter().map(column).collect(), rows: Vec::new() }
    }

    /// Adds a row; cells that are missing are empty, those beyond the head are left out.
    pub fn row(&mut self, cells: impl IntoIterator<Item = String>) {
        let mut row: Vec<String> = cells.into_iter().take(self.columns.len()).map(|cell| printable(&cell)).collect();
        row.resize(self.columns.len(), String::new());
        self.rows.push(row);
    }

    /// Whether it has no rows.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// The table, its head passed through `head`, or `empty` where there are no rows.
    pub fn render(&self, head: impl Fn(&str) -> String, empty: &str) -> String {
        if self.rows.is_empty() {
            return empty.to_owned();
        }
        let width = |index: usize| {
            let cells = self.rows.iter().map(|row| row[index].chars().count());
            cells.max().unwrap_or(0).max(self.columns[index].0.chars().count())
        };
        let widths: Vec<usize> = (0..self.columns.len()).map(width).collect();
        let line = |cells: &mut dyn Iterator<Item = &str>| {
            let mut line = String::new();
            for (cell, ((_, align), width)) in cells.zip(self.columns.iter().zip(&widths)) {
                let fill = " ".repeat(width - cell.chars().count());
                match align {
                    Align::Left => line += &format!("{cell}{fill}  "),
                    Align::Right => line += &format!("{fill}{cell}  "),
                }
            }
            line.trim_end().to_owned()
        };
        let mut text = head(&line(&mut self.columns.iter().map(|(name, _)| name.as_str())));
        for row in &self.rows {
            text.push('\n');
            text.push_str(&line(&mut row.iter().map(String::as_str)));
        }
        text
    }
}

/// Names and values below each other, the values in one column.
pub fn facts<'a>(facts: impl IntoIterator<Item = (&'a str, String)>) -> String {
    let facts: Vec<_> = facts.into_iter().collect();
    let width = facts.iter().map(|(name, _)| name.chars().count()).max().unwrap_or(0);
    let line = |(name, value): &(&str, String)| format!("{name:width$}  {}", printable(value)).trim_end().to_owned();
    facts.iter().map(line).collect::<Vec<_>>().join("\n")
}

/// Without what could move the cursor or change colours: names and log lines are written by others.
pub fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() && c != '\t' { '\u{fffd}' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned_and_lines_have_no_trailing_spaces() {
        let mut table = Table::new(&["NAME", ">CALLS", "NOTE"]);
        table.row(["a".into(), "5".into(), "x".into()]);
        table.row(["longer".into(), "1234567".into()]);
        assert_eq!(table.render(str::to_owned, "none"), "NAME      CALLS  NOTE\na             5  x\nlonger  1234567");
    }

    #[test]
    fn an_empty_table_says_so() {
        assert_eq!(Table::new(&["NAME"]).render(str::to_owned, "no functions"), "no functions");
    }

    #[test]
    fn control_characters_are_not_passed_on() {
        assert_eq!(facts([("a", "x\x1b[2Jy".to_owned()), ("long", "z".to_owned())]), "a     x\u{fffd}[2Jy\nlong  z");
    }
}
