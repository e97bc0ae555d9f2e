//! `ctr system df`.

use anyhow::Result;
use gotmpl::Value;

use crate::cli::complete::LISTING;
use crate::cli::output::template::{Column, listing, text};
use crate::cli::output::units::{ago, precise_size, size};
use crate::cli::{Globals, Run, output, ps};
use crate::container::list::{self, Container};
use crate::container::size::Sizes;
use crate::container::start;
use crate::image::compressed::{self, Compressed};
use crate::image::prune::{Space, Spaces};
use crate::image::pull::partial;
use crate::image::reference::Reference;
use crate::store::{Id, Store};

/// Show how much space images and containers take, each layer counted once
#[derive(Debug, clap::Parser)]
#[command(after_help = "An image takes the space of its files and of its compressed layers, which are what a push or a
save gives on. -v tells them apart: of the compressed layers it shows how many are here alone (ACTIVE), and
ctr image prune --blobs drops the others, which can be pulled again. What nothing refers to goes with the next
ctr rmi or ctr image prune.

Examples:
  ctr system df
  ctr system df -v
  ctr system df --format '{{.Type}} {{.Reclaimable}}'")]
pub struct Df {
    /// json, table, or a Go template
    #[arg(long, value_name = "format", add = LISTING)]
    format: Option<String>,
    /// Each image and each container
    #[arg(short, long)]
    verbose: bool,
}

/// A line of the short form.
struct Kind {
    name: &'static str,
    total: usize,
    active: usize,
    size: u64,
    reclaimable: u64,
    /// Docker has no percentage for the cache.
    has_share: bool,
}

const SHORT: &[&str] = &["Type", "TotalCount", "Active", "Size", "Reclaimable"];

const KINDS: &[Column<Kind>] = &[
    Column { name: "Type", heading: "TYPE", cell: |kind| text(kind.name) },
    Column { name: "TotalCount", heading: "TOTAL", cell: |kind| text(kind.total.to_string()) },
    Column { name: "Active", heading: "ACTIVE", cell: |kind| text(kind.active.to_string()) },
    Column { name: "Size", heading: "SIZE", cell: |kind| text(precise_size(kind.size)) },
    Column { name: "Reclaimable", heading: "RECLAIMABLE", cell: |kind| text(kind.reclaimable()) },
];

impl Kind {
    fn reclaimable(&self) -> String {
        let bytes = precise_size(self.reclaimable);
        match (self.reclaimable * 100).checked_div(self.size) {
            Some(share) if self.has_share => format!("{bytes} ({share}%)"),
            _ => bytes,
        }
    }
}

struct ImageRow {
    space: Space,
    containers: usize,
}

impl ImageRow {
    fn name(&self) -> Option<Reference> {
        self.space.entry.name.as_deref()?.parse().ok()
    }
}

fn or_none(value: Option<String>) -> Value {
    text(value.unwrap_or_else(|| "<none>".to_owned()))
}

const IMAGES: &[Column<ImageRow>] = &[
    Column {
        name: "Repository",
        heading: "REPOSITORY",
        cell: |row| or_none(row.name().map(|n| n.familiar_repository())),
    },
    Column { name: "Tag", heading: "TAG", cell: |row| or_none(row.name().and_then(|n| n.tag().map(Into::into))) },
    Column { name: "ID", heading: "IMAGE ID", cell: |row| text(&row.space.entry.image.hex()[..Id::SHORT]) },
    Column {
        name: "CreatedSince",
        heading: "CREATED",
        cell: |row| {
            let created = row.space.entry.created.as_deref().and_then(|created| created.parse().ok());
            text(created.map_or_else(|| "N/A".to_owned(), ago))
        },
    },
    Column { name: "Size", heading: "SIZE", cell: |row| text(size(row.space.size)) },
    Column { name: "SharedSize", heading: "SHARED SIZE", cell: |row| text(precise_size(row.space.shared)) },
    Column {
        name: "UniqueSize",
        heading: "UNIQUE SIZE",
        cell: |row| text(precise_size(row.space.size - row.space.shared)),
    },
    Column { name: "Containers", heading: "CONTAINERS", cell: |row| text(row.containers.to_string()) },
];

struct ContainerRow {
    container: Container,
    written: u64,
}

const CONTAINERS: &[Column<ContainerRow>] = &[
    Column { name: "ID", heading: "CONTAINER ID", cell: |row| text(row.container.id.short()) },
    Column { name: "Image", heading: "IMAGE", cell: |row| text(row.container.state.image.as_str()) },
    Column { name: "Command", heading: "COMMAND", cell: |row| text(ps::command(&row.container.state.command, false)) },
    Column { name: "LocalVolumes", heading: "LOCAL VOLUMES", cell: |_| text("0") },
    Column { name: "Size", heading: "SIZE", cell: |row| text(size(row.written)) },
    Column { name: "RunningFor", heading: "CREATED", cell: |row| text(ago(row.container.state.created)) },
    Column { name: "Status", heading: "STATUS", cell: |row| text(ps::status(&row.container.state.phase)) },
    Column { name: "Names", heading: "NAMES", cell: |row| text(row.container.state.name.as_str()) },
];

impl Run for Df {
    fn run(self, globals: &Globals) -> Result<u8> {
        let store = globals.store()?;
        let format = self.format.as_deref();
        let spaces = Spaces::of(&store)?;
        let containers = containers(&store)?;
        let made_from = |id: &str| containers.iter().filter(|row| row.container.state.image_id == id).count();
        let data = Data::of(&store, |id| made_from(id) > 0)?;
        if !self.verbose {
            let kinds = kinds(&spaces, &data, &containers, |space| made_from(space.entry.image.as_str()) > 0);
            output::print(&listing(KINDS, SHORT, format, &kinds)?);
            return Ok(0);
        }
        let counts: Vec<usize> = spaces.images.iter().map(|space| made_from(space.entry.image.as_str())).collect();
        let images = spaces.images.into_iter().zip(counts).map(|(space, containers)| ImageRow { space, containers });
        let mut images: Vec<ImageRow> = images.collect();
        images.sort_by(|a, b| {
            (&b.space.entry.created, &a.space.entry.name).cmp(&(&a.space.entry.created, &b.space.entry.name))
        });
        output::print(&self.verbose(&images, &containers, &data.kinds())?);
        Ok(0)
    }
}

impl Df {
    fn verbose(&self, images: &[ImageRow], containers: &[ContainerRow], data: &[Kind]) -> Result<String> {
        let images = (names(IMAGES), images);
        let containers = (names(CONTAINERS), containers);
        match self.format.as_deref().filter(|format| !format.is_empty() && *format != "table") {
            None => Ok(format!(
                "Images space usage:\n\n{}\nContainers space usage:\n\n{}\nLocal Volumes space usage:\n\n{}\nBuild cache \
                 usage: 0B\n\n{}\nImage data space usage:\n\n{}",
                listing(IMAGES, &images.0, None, images.1)?,
                listing(CONTAINERS, &containers.0, None, containers.1)?,
                "VOLUME NAME   LINKS     SIZE\n",
                "CACHE ID   CACHE TYPE   SIZE      CREATED   LAST USED   USAGE     SHARED\n",
                listing(KINDS, SHORT, None, data)?,
            )),
            // One object with a list for each kind.
            Some(format) => {
                let lines = |text: String| -> Result<Vec<serde_json::Value>> {
                    Ok(text.lines().map(serde_json::from_str).collect::<serde_json::Result<_>>()?)
                };
                let all = serde_json::json!({
                    "Images": lines(listing(IMAGES, &images.0, Some("json"), images.1)?)?,
                    "Containers": lines(listing(CONTAINERS, &containers.0, Some("json"), containers.1)?)?,
                    "Volumes": [],
                    "BuildCache": [],
                    // Not Docker's.
                    "ImageData": lines(listing(KINDS, SHORT, Some("json"), data)?)?,
                });
                output::template::render(if format == "{{json .}}" { "json" } else { format }, &all)
            }
        }
    }
}

/// What images take beside their files: the layers as they were pulled, and what nothing refers to (any
/// more). Docker counts both with the images.
struct Data {
    compressed: Compressed,
    /// How many there are, and their bytes.
    unreferenced: (usize, u64),
}

impl Data {
    fn of(store: &Store, is_used: impl Fn(&str) -> bool) -> Result<Self> {
        // Where that cannot be told, `system check` says why.
        let (garbage, partial) = (compressed::unreferenced(store).unwrap_or_default(), partial::space(store));
        let unreferenced = (garbage.0 + partial.0, garbage.1 + partial.1);
        Ok(Self { compressed: compressed::space(store, is_used)?, unreferenced })
    }

    /// Each on its own line.
    fn kinds(&self) -> [Kind; 2] {
        let Compressed { count, only, size, reclaimable, .. } = self.compressed;
        let (unreferenced, bytes) = self.unreferenced;
        [
            Kind { name: "Compressed Layers", total: count, active: only, size, reclaimable, has_share: true },
            Kind {
                name: "Unreferenced",
                total: unreferenced,
                active: 0,
                size: bytes,
                reclaimable: bytes,
                has_share: true,
            },
        ]
    }
}

fn names<T>(columns: &[Column<T>]) -> Vec<&'static str> {
    columns.iter().map(|column| column.name).collect()
}

fn containers(store: &Store) -> Result<Vec<ContainerRow>> {
    let all = list::all(store, |id, error| {
        output::say(&format!("ctr: container {}: {error:#}", id.short()));
    })?;
    // One that goes away meanwhile takes no space any more.
    let configs: Vec<_> = all.iter().map(|container| start::config(store, &container.id).ok()).collect();
    let sizes = if all.is_empty() { None } else { Some(Sizes::enter(store)?) };
    let written = |config: Option<_>| sizes.as_ref().zip(config).map_or(0, |(sizes, config)| sizes.written(&config));
    Ok(all
        .into_iter()
        .zip(configs)
        .map(|(container, config)| ContainerRow { container, written: written(config) })
        .collect())
}

fn kinds(spaces: &Spaces, data: &Data, containers: &[ContainerRow], is_used: impl Fn(&Space) -> bool) -> [Kind; 4] {
    let total = spaces.total(|_| true) + data.compressed.size + data.unreferenced.1;
    let runs = |row: &&ContainerRow| row.container.status().is_running();
    let sum = |rows: &mut dyn Iterator<Item = &ContainerRow>| -> u64 { rows.map(|row| row.written).sum() };
    let nothing = |name, has_share| Kind { name, total: 0, active: 0, size: 0, reclaimable: 0, has_share };
    [
        Kind {
            name: "Images",
            total: spaces.images.len(),
            active: spaces.images.iter().filter(|space| is_used(space)).count(),
            size: total,
            // What `image prune -a` gives back: not the layers that those in use have too.
            reclaimable: total - spaces.total(is_used) - data.compressed.used,
            has_share: true,
        },
        Kind {
            name: "Containers",
            total: containers.len(),
            active: containers.iter().filter(runs).count(),
            size: sum(&mut containers.iter()),
            reclaimable: sum(&mut containers.iter().filter(|row| !runs(row))),
            has_share: true,
        },
        nothing("Local Volumes", true),
        nothing("Build Cache", false),
    ]
}
