// SPDX-License-Identifier: Apache-2.0
//! Where in the text an item of a list stands, for errors that the YAML reader does not see.

/// The 1-based line on which item `index` of the top-level list `section` begins. Only the block style
/// (`section:` and then `- ` items) is understood; `None` for anything else.
pub fn item(text: &str, section: &str, index: usize) -> Option<usize> {
    let mut lines = text
        .lines()
        .enumerate()
        .skip_while(|(_, line)| line.trim_end() != format!("{section}:"));
    lines.next()?;
    let mut indent = None;
    let mut seen = 0;
    for (number, line) in lines {
        let content = line.trim_start();
        let column = line.len() - content.len();
        if content.is_empty() || content.starts_with('#') {
            continue;
        }
        let is_item = content.starts_with("- ") || content == "-";
        if column == 0 && !is_item {
            return None;
        }
        if is_item && *indent.get_or_insert(column) == column {
            if seen == index {
                return Some(number + 1);
            }
            seen += 1;
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::item;

    #[test]
    fn nested_lists_and_comments_are_not_items() {
        let text = "pods:\n- name: a\n  containers:\n  - name: c\n# no\n- name: b\nsteps:\n  - x\n  - - y\n";
        assert_eq!(item(text, "pods", 0), Some(2));
        assert_eq!(item(text, "pods", 1), Some(6));
        assert_eq!(item(text, "pods", 2), None);
        assert_eq!(item(text, "steps", 1), Some(9));
        assert_eq!(item("steps: [a, b]\n", "steps", 0), None);
    }
}
