//! Prints docs/rules.md.

fn main() {
    print!("{}", varmor_policy::rules::markdown());
}
