use super::*;

/// A launch may rest on the one before it having waited for all others.
#[test]
fn every_kernel_takes_its_turn_where_launches_overlap() {
    let overlap = |i: &&driver::Image| !i.cubin && i.capability >= driver::OVERLAPS;
    for image in images::IMAGES.iter().filter(overlap) {
        let text = String::from_utf8_lossy(image.bytes);
        for entry in text.split(".entry ").skip(1) {
            let name = entry.split('(').next().unwrap_or_default();
            assert_eq!(entry.matches("griddepcontrol.wait;").count(), 1, "{name}");
        }
    }
}
