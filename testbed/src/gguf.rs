//! Writes a language model of random weights: small enough for any test, real enough for a real server.
//! A llama of two layers that knows single bytes and characters. Input: nothing. Output: a GGUF file, always the same.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;

use anyhow::Result;

const WIDTH: u64 = 64;
const FEED_FORWARD: u64 = 128;
const LAYERS: u32 = 2;
const HEADS: u32 = 4;
/// Longer than any prompt and its reply.
const CONTEXT: u32 = 32_768;
const ALIGNMENT: u64 = 32;
const TEMPLATE: &str = "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}assistant:";

/// Numbers of the format's value types.
const U32: u32 = 4;
const I32: u32 = 5;
const F32: u32 = 6;
const STRING: u32 = 8;
const ARRAY: u32 = 9;

/// What a token is, as the format numbers it.
const NORMAL: i32 = 1;
const UNKNOWN: i32 = 2;
const CONTROL: i32 = 3;
const BYTE: i32 = 6;

struct Token {
    text: String,
    score: f32,
    kind: i32,
}

/// Writes the model.
///
/// # Errors
/// When the file cannot be written.
pub fn write(path: &Path) -> Result<()> {
    let tokens = vocabulary();
    let tensors = tensors(u64::try_from(tokens.len())?);
    let mut head = Vec::new();
    head.extend_from_slice(b"GGUF");
    head.extend_from_slice(&3_u32.to_le_bytes());
    head.extend_from_slice(&u64::try_from(tensors.len())?.to_le_bytes());
    let facts = facts(&tokens)?;
    head.extend_from_slice(&u64::try_from(facts.len())?.to_le_bytes());
    for fact in &facts {
        head.extend_from_slice(fact);
    }
    let mut offset = 0;
    for (name, shape) in &tensors {
        string(&mut head, name)?;
        head.extend_from_slice(&u32::try_from(shape.len())?.to_le_bytes());
        for size in shape {
            head.extend_from_slice(&size.to_le_bytes());
        }
        // Numbers of four bytes.
        head.extend_from_slice(&0_u32.to_le_bytes());
        head.extend_from_slice(&u64::to_le_bytes(offset));
        offset += (shape.iter().product::<u64>() * 4).next_multiple_of(ALIGNMENT);
    }
    let aligned = u64::try_from(head.len())?.next_multiple_of(ALIGNMENT);
    head.resize(usize::try_from(aligned)?, 0);
    let mut out = BufWriter::new(File::create(path)?);
    out.write_all(&head)?;
    let mut dice = Dice(7);
    for (name, shape) in &tensors {
        let count = shape.iter().product::<u64>();
        for _ in 0..count {
            let value = if name.contains("norm") { 1.0 } else { dice.roll() };
            out.write_all(&value.to_le_bytes())?;
        }
        let bytes = count * 4;
        out.write_all(&vec![0; usize::try_from(bytes.next_multiple_of(ALIGNMENT) - bytes)?])?;
    }
    out.flush()?;
    Ok(())
}

fn vocabulary() -> Vec<Token> {
    let token = |text: &str, score: f32, kind: i32| Token { text: text.to_owned(), score, kind };
    let mut tokens = vec![token("<unk>", 0.0, UNKNOWN), token("<s>", 0.0, CONTROL), token("</s>", 0.0, CONTROL)];
    tokens.extend((0..=255_u8).map(|byte| token(&format!("<0x{byte:02X}>"), 0.0, BYTE)));
    tokens.extend((b' '..=b'~').map(|byte| {
        // A space is written as this character in vocabularies of this kind.
        let text = if byte == b' ' { '\u{2581}' } else { char::from(byte) };
        token(&text.to_string(), -f32::from(byte), NORMAL)
    }));
    tokens
}

/// Names and sizes; the size that lies closest in memory first.
fn tensors(tokens: u64) -> Vec<(String, Vec<u64>)> {
    let mut all = vec![
        ("token_embd.weight".to_owned(), vec![WIDTH, tokens]),
        ("output.weight".to_owned(), vec![WIDTH, tokens]),
        ("output_norm.weight".to_owned(), vec![WIDTH]),
    ];
    for layer in 0..LAYERS {
        let mut add = |name: &str, shape: Vec<u64>| all.push((format!("blk.{layer}.{name}.weight"), shape));
        add("attn_norm", vec![WIDTH]);
        add("ffn_norm", vec![WIDTH]);
        for name in ["attn_q", "attn_k", "attn_v", "attn_output"] {
            add(name, vec![WIDTH, WIDTH]);
        }
        add("ffn_gate", vec![WIDTH, FEED_FORWARD]);
        add("ffn_up", vec![WIDTH, FEED_FORWARD]);
        add("ffn_down", vec![FEED_FORWARD, WIDTH]);
    }
    all
}

fn facts(tokens: &[Token]) -> Result<Vec<Vec<u8>>> {
    let width = u32::try_from(WIDTH)?;
    let mut facts = vec![
        text("general.architecture", "llama")?,
        text("general.name", "random")?,
        text("tokenizer.ggml.model", "llama")?,
        text("tokenizer.chat_template", TEMPLATE)?,
        fact("llama.attention.layer_norm_rms_epsilon", F32, &1e-5_f32.to_le_bytes())?,
    ];
    for (name, value) in [
        ("general.file_type", 0),
        ("llama.context_length", CONTEXT),
        ("llama.embedding_length", width),
        ("llama.block_count", LAYERS),
        ("llama.feed_forward_length", u32::try_from(FEED_FORWARD)?),
        ("llama.attention.head_count", HEADS),
        ("llama.attention.head_count_kv", HEADS),
        ("llama.rope.dimension_count", width / HEADS),
        ("llama.vocab_size", u32::try_from(tokens.len())?),
        ("tokenizer.ggml.unknown_token_id", 0),
        ("tokenizer.ggml.bos_token_id", 1),
        ("tokenizer.ggml.eos_token_id", 2),
    ] {
        facts.push(fact(name, U32, &u32::to_le_bytes(value))?);
    }
    let list = |kind: u32, values: Vec<u8>| -> Result<Vec<u8>> {
        let mut bytes = kind.to_le_bytes().to_vec();
        bytes.extend_from_slice(&u64::try_from(tokens.len())?.to_le_bytes());
        bytes.extend(values);
        Ok(bytes)
    };
    let mut names = Vec::new();
    for token in tokens {
        string(&mut names, &token.text)?;
    }
    let scores = tokens.iter().flat_map(|token| token.score.to_le_bytes()).collect();
    let kinds = tokens.iter().flat_map(|token| token.kind.to_le_bytes()).collect();
    facts.push(fact("tokenizer.ggml.tokens", ARRAY, &list(STRING, names)?)?);
    facts.push(fact("tokenizer.ggml.scores", ARRAY, &list(F32, scores)?)?);
    facts.push(fact("tokenizer.ggml.token_type", ARRAY, &list(I32, kinds)?)?);
    Ok(facts)
}

fn string(out: &mut Vec<u8>, text: &str) -> Result<()> {
    out.extend_from_slice(&u64::try_from(text.len())?.to_le_bytes());
    out.extend_from_slice(text.as_bytes());
    Ok(())
}

fn fact(name: &str, kind: u32, value: &[u8]) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    string(&mut bytes, name)?;
    bytes.extend_from_slice(&kind.to_le_bytes());
    bytes.extend_from_slice(value);
    Ok(bytes)
}

fn text(name: &str, value: &str) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    string(&mut bytes, value)?;
    fact(name, STRING, &bytes)
}

/// Splitmix64: the same numbers everywhere.
struct Dice(u64);

impl Dice {
    fn next(&mut self) -> u16 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        let [low, high, ..] = (mixed ^ (mixed >> 31)).to_le_bytes();
        u16::from_le_bytes([low, high])
    }

    /// About normal, with a standard deviation of 0.2: four even ones added up.
    fn roll(&mut self) -> f32 {
        let sum: f32 = (0..4).map(|_| f32::from(self.next()) / 65_535.0 - 0.5).sum();
        sum * 0.35
    }
}

#[cfg(test)]
#[allow(clippy::expect_used)]
mod tests {
    use super::*;

    #[test]
    fn the_model_is_the_same_every_time_and_as_large_as_its_numbers() {
        let folder = tempfile::tempdir().expect("temp dir");
        let [one, other] = ["one", "other"].map(|name| {
            let path = folder.path().join(name);
            write(&path).expect("write");
            std::fs::read(path).expect("read")
        });
        assert!(one == other && one.starts_with(b"GGUF"));
        let tokens = u64::try_from(vocabulary().len()).expect("few");
        let numbers: u64 = tensors(tokens).iter().map(|(_, shape)| shape.iter().product::<u64>()).sum();
        let least = usize::try_from(numbers * 4).expect("small");
        assert!(one.len() > least && one.len() < least + 64 * 1024 && one.len().is_multiple_of(32));
    }
}
