//! Two texts line by line.

/// Longer texts are told as wholly another: the table below grows with the product of their lines.
const LINES_MAX: usize = 1_000;

/// Every line behind ` `, `-` or `+`, in the order of a reader: a longest common part stays.
///
/// ```
/// use campanile::review::difference::lines;
/// assert_eq!(lines("a\nb\nc", "a\nd\nc"), [" a", "-b", "+d", " c"]);
/// ```
pub fn lines(before: &str, after: &str) -> Vec<String> {
    let (old, new): (Vec<&str>, Vec<&str>) = (before.lines().collect(), after.lines().collect());
    let signed = |sign: char, line: &str| format!("{sign}{line}");
    if old.len() > LINES_MAX || new.len() > LINES_MAX {
        return if before == after {
            old.iter().map(|line| signed(' ', line)).collect()
        } else {
            old.iter().map(|line| signed('-', line)).chain(new.iter().map(|line| signed('+', line))).collect()
        };
    }
    // common[i][j]: the longest common part of what is behind line i of the old text and line j of the new one.
    let mut common = vec![vec![0_usize; new.len() + 1]; old.len() + 1];
    for i in (0..old.len()).rev() {
        for j in (0..new.len()).rev() {
            common[i][j] =
                if old[i] == new[j] { common[i + 1][j + 1] + 1 } else { common[i + 1][j].max(common[i][j + 1]) };
        }
    }
    let (mut i, mut j, mut out) = (0, 0, vec![]);
    while i < old.len() || j < new.len() {
        if i < old.len() && j < new.len() && old[i] == new[j] {
            out.push(signed(' ', old[i]));
            (i, j) = (i + 1, j + 1);
        } else if j == new.len() || i < old.len() && common[i + 1][j] >= common[i][j + 1] {
            out.push(signed('-', old[i]));
            i += 1;
        } else {
            out.push(signed('+', new[j]));
            j += 1;
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::lines;

    #[test]
    fn nothing_is_lost() {
        assert_eq!(lines("", "a"), ["+a"]);
        assert_eq!(lines("a", ""), ["-a"]);
        assert_eq!(lines("a\nb", "b\na"), ["-a", " b", "+a"]);
        let long = "x\n".repeat(1_001);
        assert_eq!(lines(&long, &format!("{long}y")).len(), 2_003);
    }
}
