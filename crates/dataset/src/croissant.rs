//! The Croissant 1.1 description of a dataset (<http://mlcommons.org/croissant/1.1>): every shard
//! with its SHA-256, and the columns of each config and split.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field};
use serde_json::{Value, json};

use crate::schema::fields;
use crate::{Card, Shard};

const PARQUET: &str = "application/x-parquet";

/// The description as JSON-LD. Paths are relative to the dataset's folder.
pub fn croissant(card: &Card, shards: &[Shard]) -> Value {
    let mut tables: Vec<_> = shards.iter().map(|shard| (shard.config, shard.split)).collect();
    tables.sort_unstable();
    tables.dedup();

    let mut distribution: Vec<_> = shards
        .iter()
        .map(|shard| {
            json!({
                "@type": "cr:FileObject",
                "@id": shard.path,
                "name": shard.path,
                "contentUrl": shard.path,
                "contentSize": format!("{} B", shard.size),
                "encodingFormat": PARQUET,
                "sha256": shard.sha256,
            })
        })
        .collect();
    let mut record_sets = Vec::new();
    for (config, split) in tables {
        let table = format!("{}_{split}", config.name());
        let files = format!("{table}_files");
        distribution.push(json!({
            "@type": "cr:FileSet",
            "@id": files,
            "name": files,
            "encodingFormat": PARQUET,
            "includes": format!("{}/{split}-*.parquet", config.folder()),
        }));
        let columns: Vec<_> = fields(config, card.format, card.written_by)
            .iter()
            .map(|column| {
                let source = json!({ "fileSet": { "@id": files }, "extract": { "column": column.name() } });
                described(column, &format!("{table}/{}", column.name()), source)
            })
            .collect();
        record_sets.push(json!({
            "@type": "cr:RecordSet",
            "@id": table,
            "name": table,
            "key": { "@id": format!("{table}/example_id") },
            "field": columns,
        }));
    }
    json!({
        "@context": context(),
        "@type": "sc:Dataset",
        "conformsTo": "http://mlcommons.org/croissant/1.1",
        "name": card.name,
        "description": format!(
            "{}\n\nSynthetic data, optimised so that fine-tuning {} on it moves a metric: {}",
            card.description, card.target, card.metric
        ).trim(),
        "license": card.license,
        "datePublished": card.date,
        "keywords": ["synthetic", "dpg"],
        "inLanguage": card.languages,
        "creator": { "@type": "sc:Organization", "name": format!("dpg with {}", card.generator) },
        "url": ".",
        "distribution": distribution,
        "recordSet": record_sets,
    })
}

fn described(column: &Field, id: &str, source: Value) -> Value {
    let mut field = json!({ "@type": "cr:Field", "@id": id, "name": id, "source": source });
    let kind = match column.data_type() {
        DataType::List(element) => {
            field["isArray"] = true.into();
            field["arrayShape"] = "-1".into();
            element.data_type()
        }
        kind => kind,
    };
    if let DataType::Struct(parts) = kind {
        let part = |part: &Arc<Field>| {
            let mut source = source.clone();
            source["transform"] = json!({ "jsonPath": format!("$.{}", part.name()) });
            described(part, &format!("{id}/{}", part.name()), source)
        };
        field["subField"] = parts.iter().map(part).collect();
    } else {
        field["dataType"] = match kind {
            DataType::Float64 => "cr:Float64",
            DataType::Int64 => "cr:Int64",
            DataType::UInt64 => "cr:UInt64",
            _ => "sc:Text",
        }
        .into();
    }
    field
}

/// The context that the Croissant 1.1 specification prescribes.
fn context() -> Value {
    let mut context = json!({
        "@language": "en",
        "@vocab": "https://schema.org/",
        "cr": "http://mlcommons.org/croissant/",
        "rai": "http://mlcommons.org/croissant/RAI/",
        "dct": "http://purl.org/dc/terms/",
        "sc": "https://schema.org/",
        "conformsTo": "dct:conformsTo",
        "data": { "@id": "cr:data", "@type": "@json" },
        "examples": { "@id": "cr:examples", "@type": "@json" },
        "dataType": { "@id": "cr:dataType", "@type": "@vocab" },
        "name": { "@container": "@language" },
        "description": { "@container": "@language" },
    });
    for term in [
        "arrayShape",
        "citeAs",
        "column",
        "containedIn",
        "equivalentProperty",
        "extract",
        "field",
        "fileProperty",
        "fileObject",
        "fileSet",
        "format",
        "includes",
        "isArray",
        "isLiveDataset",
        "jsonPath",
        "key",
        "md5",
        "parentField",
        "path",
        "recordSet",
        "references",
        "regex",
        "repeated",
        "replace",
        "samplingRate",
        "separator",
        "source",
        "subField",
        "transform",
    ] {
        context[term] = format!("cr:{term}").into();
    }
    context
}
