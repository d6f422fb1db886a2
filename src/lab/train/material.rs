//! What a run learns from and is judged by, and whether its folder is free for it.

use std::path::{Path, PathBuf};

use super::{Example, TrainSpec, dataset, network};
use crate::lab::dataset::partition::{SplitSpec, divide, together};
use crate::lab::features::digests_hex;

/// Share of the images that is held out where no validation set is named.
const HELD_OUT: f64 = 0.1;

/// The images to learn from and those to judge by. Where the data says which part of a split an image
/// is in, those of `test` are in neither. Without a validation set, or parts that say so, a tenth is
/// held out: both classes in proportion, groups and identical files never divided.
///
/// # Errors
/// Unreadable data, or an image that is on both sides.
pub(super) fn parts(spec: &TrainSpec) -> anyhow::Result<(Vec<Example>, Vec<Example>)> {
    let all = load(&spec.data)?;
    let is = |example: &Example, parts: &[&str]| {
        example.picture.split.as_deref().is_some_and(|part| parts.contains(&part))
    };
    if !spec.validation.is_empty() {
        let validation = load(&spec.validation)?;
        apart(&all, &validation)?;
        return Ok((all, validation));
    }
    if all.iter().any(|example| is(example, &["val", "validation"])) {
        let (held, rest): (Vec<_>, Vec<_>) =
            all.into_iter().partition(|example| is(example, &["val", "validation"]));
        let rest = rest.into_iter().filter(|example| !is(example, &["test"])).collect();
        return Ok((rest, held));
    }
    let all: Vec<Example> = all.into_iter().filter(|example| !is(example, &["test"])).collect();
    anyhow::ensure!(all.len() >= 10, "fewer than ten images: name a validation set");
    let pictures: Vec<_> = all.iter().map(|example| &example.picture).collect();
    let digests: Vec<_> = digests_hex(&pictures)?.into_iter().map(Some).collect();
    let groups = together(&all, &digests, None, &|_| {})?;
    let shares = vec![1.0 - HELD_OUT, HELD_OUT];
    let divided = divide(&all, &groups, &SplitSpec { shares, seed: 0 })?;
    let pick = |part: usize| {
        let chosen = divided.get(part).into_iter().flatten();
        chosen.filter_map(|index| all.get(*index).cloned()).collect()
    };
    Ok((pick(0), pick(1)))
}

fn load(folders: &[PathBuf]) -> anyhow::Result<Vec<Example>> {
    let sets = folders.iter().map(|folder| dataset::load(folder));
    Ok(sets.collect::<anyhow::Result<Vec<_>>>()?.into_iter().flatten().collect())
}

/// An image that is learnt from says nothing about images that are not.
fn apart(train: &[Example], validation: &[Example]) -> anyhow::Result<()> {
    let sources: std::collections::HashSet<_> = train
        .iter()
        .map(|example| (example.picture.source.file(), example.picture.id.as_str()))
        .collect();
    for Example { picture, .. } in validation {
        anyhow::ensure!(
            !sources.contains(&(picture.source.file(), picture.id.as_str())),
            "image {} is both learnt from and judged by; `roadcrew dataset split` makes sets apart",
            picture.id
        );
    }
    Ok(())
}

/// Refuses a run that would overwrite what is not its own.
///
/// # Errors
/// If the folder is the model's own, holds a model or a run, or has nothing to resume.
pub(super) fn may_write(spec: &TrainSpec) -> anyhow::Result<()> {
    let out = spec.out.display();
    let is_model = fs_err::canonicalize(&spec.out)
        .is_ok_and(|out| fs_err::canonicalize(&spec.model).is_ok_and(|model| model == out));
    anyhow::ensure!(!is_model, "{out} is the model to start from; name another folder");
    let folders = folders(spec);
    let checkpoints = folders.iter().filter(|folder| folder.join(super::checkpoint::NAME).exists());
    let begun = checkpoints.count();
    if spec.resume {
        anyhow::ensure!(begun > 0, "{out} holds no run to resume; leave --resume out to begin one");
        return Ok(());
    }
    anyhow::ensure!(
        begun == 0,
        "{out} holds a run already; go on with --resume, or name another folder"
    );
    let taken = network::FILES.iter().find(|name| spec.out.join(name).exists());
    anyhow::ensure!(taken.is_none(), "{out} holds a model already; name another folder");
    Ok(())
}

/// The folder of each seed's run.
pub(super) fn folders(spec: &TrainSpec) -> Vec<PathBuf> {
    match spec.recipe.seeds[..] {
        [_] => vec![spec.out.clone()],
        _ => spec.recipe.seeds.iter().map(|seed| seed_folder(&spec.out, *seed)).collect(),
    }
}

fn seed_folder(out: &Path, seed: u64) -> PathBuf {
    out.join(format!("seed-{seed}"))
}
