//! Restores of tars into a directory: equal to `tar -x`, and never a write outside.

use super::forge::*;
use super::tools::*;
use containerarchive::entropy::OsEntropy;
use containerarchive::storage::Tree;
use containerarchive::storage::tree::Refusal;
use containerarchive::tar::{Break, ExtractOptions, Extractor, Reason, Report, Verdict};
use serde_json::Value;
use std::collections::BTreeMap;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

fn extract(archive: &[u8], target: &Path, overwrite: bool, options: ExtractOptions) -> Report {
    let tree = Tree::open(target, overwrite, &OsEntropy).unwrap();
    let mut extractor = Extractor::new(tree, options);
    for piece in archive.chunks(70_001) {
        extractor.feed(piece).unwrap();
    }
    extractor.finish().unwrap()
}

/// What `walk.py` finds.
pub fn walk(folder: &Path) -> Vec<Value> {
    let (success, listed) = run(Command::new("python3").arg(beside("walk.py")).arg(folder));
    assert!(success);
    let listed = String::from_utf8(listed).unwrap();
    listed.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn is_root() -> bool {
    std::fs::metadata("/proc/self").is_ok_and(|found| found.uid() == 0)
}

#[test]
fn a_restored_tree_is_that_of_gnu_tar() {
    if !has("python3", "--version") || !has("tar", "--version") {
        return;
    }
    if !is_root() {
        println!("SKIPPED: owners and devices were NOT compared, for want of permission");
    }
    let folder = tempfile::tempdir().unwrap();
    let source = folder.path().join("tree");
    std::fs::create_dir(&source).unwrap();
    tree(&source, true);
    sparse_file(&source.join("sparse"), 20 << 20, 9);
    sparse_file(&source.join("sparse-large"), 9 << 30, 40);
    sparse_file(&source.join("sparse-hole"), 5_000_001, 0);
    // a directory that is entered twice, and one that may not be written to
    std::fs::set_permissions(source.join("modes"), PermissionsExt::from_mode(0o555)).unwrap();
    for format in ["gnu", "posix"] {
        let archive = folder.path().join("archive.tar");
        let mut create = Command::new("tar");
        create
            .args(["--sparse", &format!("--format={format}")])
            .arg("-C")
            .arg(&source);
        run(create.arg("-cf").arg(&archive).arg("."));
        // a name that occurs twice; not in a directory below, whose time GNU tar then loses
        let mut again = Command::new("tar");
        again
            .args(["--sparse", &format!("--format={format}")])
            .arg("-C")
            .arg(&source);
        assert!(run(again.arg("-rf").arg(&archive).arg("./sparse-hole")).0);

        let theirs = folder.path().join(format!("theirs-{format}"));
        std::fs::create_dir(&theirs).unwrap();
        let mut command = Command::new("tar");
        command.args(["-xp", "--numeric-owner", "-f"]).arg(&archive);
        assert!(run(command.arg("-C").arg(&theirs)).0);

        let ours = folder.path().join(format!("ours-{format}"));
        let options = ExtractOptions {
            owners: is_root(),
            setuid: true,
            devices: true,
            outside_links: true,
            ..ExtractOptions::default()
        };
        let report = extract(&std::fs::read(&archive).unwrap(), &ours, false, options);
        assert_eq!(
            (report.skipped.count, report.changed.count),
            (0, 0),
            "{:?}",
            report.skipped
        );
        assert!(matches!(report.verdict, Verdict::Complete { .. }));
        let (theirs, ours) = (walk(&theirs), walk(&ours));
        for (theirs, ours) in theirs.iter().zip(&ours) {
            assert_eq!(theirs, ours);
        }
        assert_eq!(theirs.len(), ours.len());
        assert!(ours.iter().filter(|entry| entry["has_holes"] == true).count() >= 3);
        assert!(ours.iter().any(|entry| entry["names"] == 2));
    }
}

/// A restore that must not write outside of its target.
struct Attack {
    name: &'static str,
    /// Made in the folder of the target before the restore.
    before: fn(&Path),
    archive: Vec<Vec<u8>>,
    overwrite: bool,
    options: ExtractOptions,
    /// Why members are skipped, in order.
    skipped: Vec<Reason>,
    /// Paths below the target afterwards, with the content of files.
    left: &'static [(&'static str, &'static str)],
}

fn attack(
    name: &'static str,
    archive: Vec<Vec<u8>>,
    skipped: Vec<Reason>,
    left: &'static [(&'static str, &'static str)],
) -> Attack {
    Attack {
        name,
        before: |_| {},
        archive,
        overwrite: false,
        options: ExtractOptions::default(),
        skipped,
        left,
    }
}

impl Attack {
    fn before(self, before: fn(&Path)) -> Self {
        Self { before, ..self }
    }

    fn overwriting(self) -> Self {
        Self {
            overwrite: true,
            ..self
        }
    }

    /// Everything that may be asked for.
    fn permitted(self) -> Self {
        let options = ExtractOptions {
            outside_links: true,
            setuid: true,
            ..self.options
        };
        Self { options, ..self }
    }

    fn strip(self, strip_components: usize) -> Self {
        let options = ExtractOptions {
            strip_components,
            ..self.options
        };
        Self { options, ..self }
    }
}

fn soft(name: &str, target: &str) -> Vec<u8> {
    Header::new(name, b'2', 0).link(target).bytes()
}

fn hard(name: &str, target: &str) -> Vec<u8> {
    Header::new(name, b'1', 0).link(target).bytes()
}

fn folder(name: &str) -> Vec<u8> {
    Header::new(name, b'5', 0).mode(0o755).bytes()
}

fn refused(refusal: Refusal) -> Reason {
    Reason::Refused(refusal)
}

/// Paths that lead out.
fn ways_out() -> Vec<Attack> {
    use Reason::*;
    vec![
        attack("an absolute path", vec![file("/canary", "x")], vec![AbsolutePath], &[]),
        attack("two slashes", vec![file("//canary", "x")], vec![AbsolutePath], &[]),
        attack("a way up", vec![file("../canary", "x")], vec![ParentPath], &[]),
        attack(
            "a way down and up",
            vec![file("a/../../canary", "x")],
            vec![ParentPath],
            &[],
        ),
        attack("a way up at the end", vec![folder("a/..")], vec![ParentPath], &[]),
        attack(
            "a way up in a long name",
            vec![long(b'L', "../canary"), file("x", "x")],
            vec![ParentPath],
            &[],
        ),
        attack(
            "a way up in a record",
            vec![pax(b'x', record("path", "../canary")), file("x", "x")],
            vec![ParentPath],
            &[],
        ),
        attack(
            "a way up in the prefix",
            vec![Header::file("canary", 1).put(345, b"..").with("x")],
            vec![ParentPath],
            &[],
        ),
        attack(
            "a way up in the name of a sparse file",
            vec![
                pax(
                    b'x',
                    [
                        record("GNU.sparse.name", "../canary"),
                        record("GNU.sparse.size", "1"),
                        record("GNU.sparse.map", "0,1"),
                    ]
                    .concat(),
                ),
                file("x", "x"),
            ],
            vec![ParentPath],
            &[],
        ),
        attack(
            "a way up that is stripped",
            vec![file("../canary", "x")],
            vec![ParentPath],
            &[],
        )
        .strip(1),
    ]
}

/// Links that lead out.
fn ways_through() -> Vec<Attack> {
    use Reason::*;
    let through = || refused(Refusal::ThroughLink);
    vec![
        attack(
            "a link that leads out, and a file through it",
            vec![soft("l", ".."), file("l/canary", "x")],
            vec![LinkLeavesTarget],
            &[("l/", ""), ("l/canary", "x")],
        ),
        attack(
            "the same with the link permitted",
            vec![soft("l", ".."), file("l/canary", "x")],
            vec![through()],
            &[("l", "-> ..")],
        )
        .permitted(),
        attack(
            "a chain of links",
            vec![
                soft("a", "b/.."),
                soft("b", "c"),
                soft("c", "../.."),
                file("a/canary", "x"),
            ],
            vec![LinkLeavesTarget, LinkLeavesTarget],
            &[("a/", ""), ("a/canary", "x"), ("b", "-> c")],
        ),
        attack(
            "a link within the target",
            vec![folder("d"), soft("l", "d"), file("l/x", "x")],
            vec![through()],
            &[("d/", ""), ("l", "-> d")],
        ),
        attack(
            "a link in the middle of a path",
            vec![soft("a/b", "../.."), file("a/b/c/canary", "x")],
            vec![through()],
            &[("a/", ""), ("a/b", "-> ../..")],
        )
        .permitted(),
        attack(
            "a directory through a link",
            vec![soft("l", ".."), folder("l/evil"), folder("l")],
            vec![through(), through()],
            &[("l", "-> ..")],
        )
        .permitted(),
        attack(
            "a link through a link",
            vec![
                soft("l", ".."),
                soft("l/evil", "x"),
                hard("l/evil", "l"),
                Header::new("l/pipe", b'6', 0).bytes(),
            ],
            vec![through(), through(), through()],
            &[("l", "-> ..")],
        )
        .permitted(),
        attack(
            "a file in place of a link that leads out",
            vec![soft("l", "../canary"), file("l", "new")],
            vec![],
            &[("l", "new")],
        )
        .permitted(),
        attack(
            "a directory that becomes a link",
            vec![folder("d"), file("d/a", "a"), soft("d", ".."), file("d/canary", "x")],
            vec![refused(Refusal::Exists)],
            &[("d/", ""), ("d/a", "a"), ("d/canary", "x")],
        )
        .permitted(),
        attack(
            "a link from before the restore",
            vec![file("planted/canary", "x")],
            vec![through()],
            &[("planted", "-> ..")],
        )
        .before(|target| symlink("..", target.join("planted")).unwrap())
        .overwriting(),
    ]
}

/// Hard links.
fn hard_links() -> Vec<Attack> {
    use Reason::*;
    vec![
        attack(
            "a hard link up",
            vec![hard("h", "../canary")],
            vec![LinkLeavesTarget],
            &[],
        ),
        attack(
            "an absolute hard link",
            vec![hard("h", "/etc/passwd")],
            vec![LinkLeavesTarget],
            &[],
        ),
        attack(
            "a hard link to nothing",
            vec![hard("h", "no")],
            vec![refused(Refusal::NoLinkTarget)],
            &[],
        ),
        attack(
            "a hard link without a target",
            vec![hard("h", "")],
            vec![refused(Refusal::NoLinkTarget)],
            &[],
        ),
        attack(
            "a hard link to a directory",
            vec![folder("d"), hard("h", "d")],
            vec![refused(Refusal::NoLinkTarget)],
            &[("d/", "")],
        ),
        attack(
            "a hard link to a file from before",
            vec![hard("h", "old")],
            vec![refused(Refusal::ForeignLinkTarget)],
            &[("old", "old")],
        )
        .before(|target| std::fs::write(target.join("old"), "old").unwrap()),
        attack(
            "a hard link through a link",
            vec![soft("l", ".."), hard("h", "l/canary")],
            vec![refused(Refusal::ThroughLink)],
            &[("l", "-> ..")],
        )
        .permitted(),
        attack(
            "a hard link that takes a link up",
            vec![
                soft("a/b/l", "../.."),
                hard("h", "a/b/l"),
                hard("a/h", "a/b/l"),
                hard("a/c/h", "a/b/l"),
            ],
            vec![refused(Refusal::LinkLeavesTarget), refused(Refusal::LinkLeavesTarget)],
            &[
                ("a/", ""),
                ("a/b/", ""),
                ("a/b/l", "-> ../.."),
                ("a/c/", ""),
                ("a/c/h", "-> ../.."),
            ],
        ),
        attack(
            "a hard link to a link, and a file in its place",
            vec![soft("l", "../canary"), hard("h", "l"), file("h", "x")],
            vec![],
            &[("h", "x"), ("l", "-> ../canary")],
        )
        .permitted(),
        attack(
            "a hard link, and other content under its name",
            vec![file("a", "a"), hard("h", "a"), file("h", "h"), hard("a", "h")],
            vec![],
            &[("a", "h"), ("h", "h")],
        ),
        attack(
            "a hard link to itself",
            vec![file("a", "a"), hard("a", "a"), hard("a", "./a")],
            vec![],
            &[("a", "a")],
        ),
        attack(
            "a hard link whose target is stripped",
            vec![file("d/a", "a"), hard("d/h", "d/a"), hard("d/i", "d")],
            vec![refused(Refusal::NoLinkTarget)],
            &[("a", "a"), ("h", "a")],
        )
        .strip(1),
    ]
}

/// Names that exist.
fn names() -> Vec<Attack> {
    let exists = || refused(Refusal::Exists);
    let old: fn(&Path) = |target| {
        std::fs::write(target.join("a"), "old").unwrap();
        std::fs::create_dir(target.join("d")).unwrap();
    };
    let linked: fn(&Path) = |target| std::fs::hard_link(target.join("../canary"), target.join("a")).unwrap();
    vec![
        attack(
            "a name that exists",
            vec![file("a", "new")],
            vec![exists()],
            &[("a", "old"), ("d/", "")],
        )
        .before(old),
        attack(
            "a name to overwrite",
            vec![file("a", "new")],
            vec![],
            &[("a", "new"), ("d/", "")],
        )
        .before(old)
        .overwriting(),
        attack(
            "a file for a directory",
            vec![file("d", "new")],
            vec![exists()],
            &[("a", "old"), ("d/", "")],
        )
        .before(old)
        .overwriting(),
        attack(
            "a directory for a file",
            vec![folder("a"), file("a/x", "x")],
            vec![refused(Refusal::ThroughLink), refused(Refusal::ThroughLink)],
            &[("a", "old"), ("d/", "")],
        )
        .before(old)
        .overwriting(),
        attack(
            "a name of a file outside",
            vec![file("a", "new")],
            vec![],
            &[("a", "new")],
        )
        .before(linked)
        .overwriting(),
    ]
}

/// Names that occur twice, and names that are none.
fn odd_names() -> Vec<Attack> {
    use Reason::*;
    vec![
        attack(
            "a name that occurs three times",
            vec![file("a", "1"), file("a", "2"), file("./a", "3")],
            vec![],
            &[("a", "3")],
        ),
        attack(
            "no name",
            vec![file("", "x"), file(".", "x"), file("./", "x")],
            vec![NoName, NoName],
            &[],
        ),
        attack("only the target", vec![folder("./"), folder(".")], vec![], &[]),
        attack(
            "names that are stripped",
            vec![folder("d"), file("d/e", "e")],
            vec![],
            &[("e", "e")],
        )
        .strip(1),
        attack(
            "a device, a pipe and a label",
            vec![
                Header::new("tty", b'3', 0).bytes(),
                Header::new("disk", b'4', 0).bytes(),
                Header::new("pipe", b'6', 0).bytes(),
                Header::new("label", b'V', 3).with("abc"),
            ],
            vec![Device, Device, UnknownType(b'V')],
            &[("pipe", "special")],
        ),
        attack(
            "a directory without permissions",
            vec![
                Header::new("d", b'5', 0).mode(0).bytes(),
                file("d/x", "x"),
                folder("e"),
                file("d/y", "y"),
            ],
            vec![],
            &[("d/", ""), ("d/x", "x"), ("d/y", "y"), ("e/", "")],
        ),
        attack(
            "a path that is too deep",
            vec![
                pax(b'x', record("path", "d/".repeat(201) + "x")),
                file("x", "x"),
                file("y", "y"),
            ],
            vec![refused(Refusal::TooDeep)],
            &[("y", "y")],
        ),
    ]
}

#[test]
fn no_attack_writes_outside_of_the_target() {
    for attack in [ways_out(), ways_through(), hard_links(), names(), odd_names()]
        .into_iter()
        .flatten()
    {
        let folder = tempfile::tempdir().unwrap();
        let target = folder.path().join("target");
        std::fs::create_dir(&target).unwrap();
        std::fs::write(folder.path().join("canary"), "alive").unwrap();
        std::fs::create_dir(folder.path().join("outside")).unwrap();
        (attack.before)(&target);
        let before = outside(folder.path());
        let archive = [attack.archive.concat(), end()].concat();
        let report = extract(&archive, &target, attack.overwrite, attack.options);
        assert_eq!(outside(folder.path()), before, "{}", attack.name);
        let skipped: Vec<Reason> = report
            .skipped
            .first
            .iter()
            .map(|notice| notice.reason.clone())
            .collect();
        assert_eq!(skipped, attack.skipped, "{}", attack.name);
        assert!(matches!(report.verdict, Verdict::Complete { .. }), "{}", attack.name);
        let expected: BTreeMap<String, String> = attack
            .left
            .iter()
            .map(|(path, content)| ((*path).to_owned(), (*content).to_owned()))
            .collect();
        assert_eq!(left(&target), expected, "{}", attack.name);
    }
}

/// What is beside the target, with permissions and time of each.
fn outside(folder: &Path) -> Vec<(PathBuf, u32, i64, i64, Option<String>)> {
    let mut found: Vec<_> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| !path.ends_with("target"))
        .chain([folder.to_owned(), folder.join("outside")])
        .map(|path| {
            let meta = std::fs::symlink_metadata(&path).unwrap();
            let content = std::fs::read_to_string(&path).ok();
            (path, meta.mode(), meta.mtime(), meta.mtime_nsec(), content)
        })
        .collect();
    found.sort();
    found
}

/// All that is below a folder: directories end with a slash, links are `-> target`.
fn left(folder: &Path) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    let mut waiting = vec![PathBuf::new()];
    while let Some(below) = waiting.pop() {
        for entry in std::fs::read_dir(folder.join(&below)).unwrap() {
            let path = below.join(entry.unwrap().file_name());
            let meta = std::fs::symlink_metadata(folder.join(&path)).unwrap();
            let name = path.to_str().unwrap().to_owned();
            if meta.is_dir() {
                found.insert(name + "/", String::new());
                waiting.push(path);
            } else if meta.is_symlink() {
                let target = std::fs::read_link(folder.join(&path)).unwrap();
                found.insert(name, format!("-> {}", target.display()));
            } else if meta.is_file() {
                found.insert(name, std::fs::read_to_string(folder.join(&path)).unwrap());
            } else {
                found.insert(name, "special".to_owned());
            }
        }
    }
    found
}

#[test]
fn setuid_is_removed_unless_asked_for_and_reported() {
    let archive = [Header::file("s", 0).mode(0o6755).bytes(), end()].concat();
    for setuid in [false, true] {
        let folder = tempfile::tempdir().unwrap();
        let target = folder.path().join("target");
        let options = ExtractOptions {
            setuid,
            ..ExtractOptions::default()
        };
        let report = extract(&archive, &target, false, options);
        let mode = std::fs::metadata(target.join("s")).unwrap().mode() & 0o7777;
        assert_eq!(mode, if setuid { 0o6755 } else { 0o755 });
        let changed: Vec<_> = report.changed.first.iter().map(|notice| &notice.reason).collect();
        assert_eq!(changed, if setuid { vec![] } else { vec![&Reason::SetuidRemoved] });
    }
}

#[test]
fn names_that_the_system_refuses_are_reported_and_the_others_written() {
    let folder = tempfile::tempdir().unwrap();
    let target = folder.path().join("target");
    let huge = [
        pax(
            b'x',
            [
                record("GNU.sparse.size", (u64::MAX >> 1).to_string()),
                record("GNU.sparse.map", "0,1"),
            ]
            .concat(),
        ),
        file("huge", "x"),
    ];
    let archive = [
        pax(b'x', record("path", "n".repeat(256))),
        file("x", "x"),
        pax(b'x', record("path", "d/".repeat(100) + &"n".repeat(300))),
        Header::new("x", b'5', 0).bytes(),
        huge.concat(),
        file("last", "last"),
        end(),
    ];
    let report = extract(&archive.concat(), &target, false, ExtractOptions::default());
    let is_system = |reason: &Reason| matches!(reason, Reason::Refused(Refusal::System(_)));
    assert_eq!((report.skipped.count, report.files), (3, 1), "{:?}", report.skipped);
    assert!(report.skipped.first.iter().all(|notice| is_system(&notice.reason)));
    assert_eq!(left(&target)["last"], "last");
    assert!(left(&target).keys().all(|name| !name.contains("tmp")));
}

#[test]
fn a_file_that_breaks_off_is_not_left() {
    let archive = [file("whole", "whole"), file("half", [b'h'; 5000])].concat();
    let folder = tempfile::tempdir().unwrap();
    let target = folder.path().join("target");
    let cut = &archive[..archive.len() - 3000];
    let report = extract(cut, &target, false, ExtractOptions::default());
    assert_eq!(
        report.verdict,
        Verdict::BrokeOff {
            at: cut.len() as u64,
            why: Break::InData
        }
    );
    assert_eq!(report.skipped.first[0].reason, Reason::BrokeOff);
    assert_eq!(left(&target).into_keys().collect::<Vec<_>>(), ["whole"]);

    // nor is one of a restore that is given up
    let tree = Tree::open(&target, true, &OsEntropy).unwrap();
    let mut extractor = Extractor::new(tree, ExtractOptions::default());
    extractor.feed(cut).unwrap();
    drop(extractor);
    assert_eq!(left(&target).into_keys().collect::<Vec<_>>(), ["whole"]);
}

#[test]
fn a_report_lists_a_thousand_notices_and_counts_all() {
    let folder = tempfile::tempdir().unwrap();
    let archive = [file("../x", "").repeat(1500), end()].concat();
    let report = extract(
        &archive,
        &folder.path().join("target"),
        false,
        ExtractOptions::default(),
    );
    assert_eq!((report.skipped.count, report.skipped.first.len()), (1500, 1000));
}
