//! Weights in a mapped file: the same bits as in memory, who is told what is read, and what becomes resident.

mod common;

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use common::run::{Backwards, Runner, Threads, bits, rows, tokens};
use common::{Recipe, pack_to, shapes};
use onebit_format::{Layout, PackedFile};
use onebit_kernels::{Kernels, Serial};
use onebit_model::{ErrorKind, KvType, Model, ModelError, Residency};

struct OnDisk {
    _folder: tempfile::TempDir,
    path: PathBuf,
}

fn on_disk(recipe: &Recipe) -> OnDisk {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.onebit");
    let config = serde_json::to_value(&recipe.spec).unwrap();
    pack_to(&path, config, &recipe.tensors(), 8);
    OnDisk {
        _folder: folder,
        path,
    }
}

fn in_memory(path: &Path) -> Model {
    Model::from_file(Arc::new(PackedFile::read_to_heap(path).unwrap())).unwrap()
}

/// An untied embedding of each layout.
fn untied() -> Vec<Recipe> {
    let layouts = [
        Layout::F32,
        Layout::F16,
        Layout::BF16,
        Layout::I8,
        Layout::I4,
    ];
    let tables = layouts.map(|embed| Recipe {
        embed,
        ..shapes::llama(Layout::T2)
    });
    let signs = [Layout::T2, Layout::T2R16, Layout::B1, Layout::B1R64].map(shapes::bonsai);
    tables.into_iter().chain(signs).collect()
}

#[test]
fn rows_read_from_the_file_are_those_in_memory() {
    for recipe in untied() {
        let file = on_disk(&recipe);
        let (memory, mapped) = (in_memory(&file.path), Model::open(&file.path).unwrap());
        let ids = tokens(&memory, 40, 3);
        let expected = Runner::new(&memory, Kernels::best(), &Serial).logits(&ids);
        for threads in [1, 3] {
            let threads = Threads(threads);
            let found = Runner::new(&mapped, Kernels::best(), &threads).logits(&ids);
            assert_eq!(bits(&found), bits(&expected), "embed {}", recipe.embed);
        }
        let found = Runner::new(&mapped, Kernels::best(), &Backwards(64)).logits(&ids);
        assert_eq!(bits(&found), bits(&expected), "embed {}", recipe.embed);
    }
}

/// Writes down what it is told.
#[derive(Default)]
struct Log(Mutex<Vec<(bool, usize)>>);

impl Residency for Log {
    fn before(&self, stage: usize) {
        self.0.lock().unwrap().push((true, stage));
    }

    fn after(&self, stage: usize) {
        self.0.lock().unwrap().push((false, stage));
    }
}

#[test]
fn every_stage_is_announced_in_order() {
    for recipe in [shapes::bitnet(), shapes::llama(Layout::I4)] {
        let file = on_disk(&recipe);
        let log = Arc::new(Log::default());
        let plain = in_memory(&file.path);
        let model = Model::open(&file.path).unwrap().with_residency(log.clone());
        let ids = tokens(&plain, 10, 3);
        let expected = Runner::new(&plain, Kernels::best(), &Serial).logits(&ids);
        let found = Runner::new(&model, Kernels::best(), &Serial).logits(&ids);
        assert_eq!(bits(&found), bits(&expected));
        let stages = recipe.spec.layers + 1;
        let told: Vec<_> = (0..stages).flat_map(|i| [(true, i), (false, i)]).collect();
        assert_eq!(*log.0.lock().unwrap(), told);
    }
}

#[test]
fn stages_cover_all_weights_that_steps_read_through_the_map() {
    for (name, recipe) in shapes::all() {
        let model = recipe.model(8);
        let stages = model.stages();
        assert_eq!(stages.len(), recipe.spec.layers + 1, "{name}");
        let mut places: Vec<_> = model.file().index().tensors().collect();
        places.retain(|(name, ..)| {
            let table = name.starts_with("embed") && !recipe.spec.tied_head;
            !table && *name != onebit_format::SCALES_TENSOR
        });
        for (tensor, _, range) in places {
            let ranges = stages.iter().flatten();
            // The last bytes of a tensor may be padding.
            let found = ranges
                .filter(|stage| stage.start <= range.start && range.end < stage.end + 64)
                .count();
            assert!(found >= 1, "{name}: {tensor} is in no stage");
        }
    }
}

#[test]
fn a_file_that_becomes_shorter_is_an_error() {
    let recipe = shapes::llama(Layout::T2);
    let file = on_disk(&recipe);
    let model = Model::open(&file.path).unwrap();
    let mut runner = Runner::new(&model, Kernels::best(), &Serial);
    let mut cache = runner.cache(KvType::F32);
    let before = runner.extend(&mut cache, &[1, 2, 3], 3);
    assert_eq!(before.len(), 3);
    let whole = std::fs::metadata(&file.path).unwrap().len();
    let bytes = std::fs::read(&file.path).unwrap();
    let shorten = |len| {
        let file = std::fs::OpenOptions::new().write(true).open(&file.path);
        file.unwrap().set_len(len).unwrap();
    };
    shorten(64);
    let step = rows(0, 3, &[4]);
    let error = runner.step(&step, &mut [&mut cache]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Malformed);
    assert!(matches!(error, ModelError::Format(_)), "{error:?}");
    let message = error.to_string();
    assert!(message.contains("cannot read") && message.contains("model.onebit"));
    assert_eq!(cache.len(), 3);
    shorten(whole);
    std::fs::write(&file.path, bytes).unwrap();
    runner.step(&step, &mut [&mut cache]).unwrap();
    assert_eq!(cache.len(), 4);
}

/// Bytes of a range of addresses that are in this process's page table.
#[cfg(target_os = "linux")]
fn resident(bytes: &[u8]) -> u64 {
    use std::os::unix::fs::FileExt;
    const PAGE: u64 = 4096;
    let start = bytes.as_ptr() as u64 / PAGE;
    let end = (bytes.as_ptr() as u64 + bytes.len() as u64).div_ceil(PAGE);
    let mut entries = vec![0; 8 * (end - start) as usize];
    let pages = std::fs::File::open("/proc/self/pagemap").unwrap();
    pages.read_exact_at(&mut entries, 8 * start).unwrap();
    let present = entries.chunks_exact(8).filter(|entry| entry[7] >> 7 == 1);
    PAGE * present.count() as u64
}

#[cfg(target_os = "linux")]
#[test]
fn a_prompt_leaves_an_untied_table_out_of_memory() {
    if std::fs::metadata("/proc/self/pagemap").is_err() {
        eprintln!("skipped because /proc/self/pagemap cannot be read");
        return;
    }
    for embed in [Layout::BF16, Layout::I8, Layout::I4] {
        let mut recipe = shapes::llama(Layout::T2);
        recipe.spec.hidden = 256;
        recipe.spec.vocab = 80_000;
        recipe.head = Layout::B1;
        recipe.activation = onebit_format::ActivationMode::F32;
        recipe.embed = embed;
        let file = on_disk(&recipe);
        let model = Model::open(&file.path).unwrap();
        let packed = model.file();
        let table = packed.matrix("embed").unwrap().bytes();
        let opened = resident(packed.bytes());
        assert!(
            opened < 1 << 16,
            "{opened} bytes are resident after opening"
        );
        let ids: Vec<u32> = (0..60).map(|i| i * 1301).collect();
        let mut runner = Runner::new(&model, Kernels::best(), &Serial);
        let logits = runner.logits(&ids);
        // The first layer lies behind the table, and its pages come with some of their surroundings.
        let table = &table[..table.len() - (2 << 20)];
        let found = resident(table);
        assert!(
            found < 1 << 16,
            "{embed}: {found} of {} bytes are resident",
            table.len()
        );
        // The measurement sees what the map would do.
        let touched: f32 = ids
            .iter()
            .map(|&id| packed.matrix("embed").unwrap().value(id as usize, 0))
            .sum();
        assert!(resident(table) > found, "{touched}");
        assert!(packed.release("embed"));
        assert!(resident(&table[4096..]) <= 4096);
        assert!(logits.iter().flatten().all(|x| x.is_finite()));
    }
}

#[cfg(not(target_os = "linux"))]
#[test]
fn a_prompt_leaves_an_untied_table_out_of_memory() {
    eprintln!("skipped because only Linux tells which pages of a map are resident");
}
