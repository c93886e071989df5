//! How secrets look: the table that the redactor works through, in order.
//!
//! Role: one linear-time pattern per form, with what stays in front of the mark (`keep`) and the name of a pair (`key`).
//! Inputs: none. Outputs: kinds and compiled patterns. What contains other forms comes first. Must never import: other
//! rooms.

use regex::{Regex, RegexBuilder};

use super::SecretKind;

/// Most memory of one compiled pattern.
const SIZE: usize = 4 << 20;

/// One form of a secret.
pub(super) struct Pattern {
    pub(super) kind: SecretKind,
    pub(super) regex: Regex,
}

/// What names a secret anywhere in a name.
const WORD: &str = r"passw(?:or)?d|passphrase|passcode|pwd|secret|token|(?:api|access|account|private|encryption|signing|master|ssh|storage|shared|deploy|license|webhook|client|hmac|service)[-_.]?key|shared[-_.]?access[-_.]?signature|credential|session[-_.]?(?:id|key)|jsessionid|phpsessid|[cx]srf|dsn|signature|[-_]pass\b|\b(?:sig|otp|cvv|cvc|ssn|pass)\b|_auth\b";

/// The same in the names of an environment, where a key of any sort is one.
const UPPER: &str = r"PASS(?:W(?:OR)?D|PHRASE)?|PWD|SECRET|TOKEN|KEY|CREDENTIALS?|DSN";

/// A quote around a name, in the spellings of JSON, JSON in JSON, URLs and HTML.
const QUOTE: &str = r#"(?:\\*["'`]|%2[27]|&quot;|&#3[49];|\\+u0022)?"#;

/// Between name and value.
const BETWEEN: &str = r"\s*(?::=|=>|==|[:=]|%3[DAda])\s*";

/// A value: quoted, quoted in a quoted text, in brackets, or bare; perhaps within `Some(…)` or `[]byte{…}`.
const VALUE: &str = concat!(
    r#"(?:(?:[A-Za-z_&*][A-Za-z0-9_:.*]{0,40})?[({\[]{0,3}(?:"(?s:[^"\\]|\\.)*(?:"|\z)|'(?s:[^'\\]|\\.)*(?:'|\z)|"#,
    r#"\\"(?:[^"\\]|\\\\\\"|\\\\|\\[^"\\])*(?:\\"|"|\z)|\\{2,}"(?:[^"\\]|\\{4,}"|\\+[^"\\])*(?:\\{0,3}"|\z))|"#,
    r#"&(?:quot|#34|#39);[^&\s]*|(?:\[\](?:byte|uint8))?[\[{][^\]}]*[\]}]?[^\s"&;]*|[^\s"&;]*[^\s"'&;,.)}\]>\\])"#,
);

const TABLE: &[(SecretKind, &str)] = &[
    // A block cut off before its end is a secret too, and so is one whose beginning stands in another line.
    (SecretKind::Pem, r"(?s)-{4,5} ?BEGIN [A-Z0-9 ]{0,64}-{4,5}.*?(?:-{4,5} ?END [A-Z0-9 ]{0,64}-{4,5}|\z)"),
    (
        SecretKind::Pem,
        r"(?:[A-Za-z0-9+/=]{16,}(?:\s|\\+[nr])*){0,100}(?:[A-Za-z0-9+/=]{1,64}(?:\s|\\+[nr])+)?-{4,5} ?END [A-Z0-9 ]{0,64}-{4,5}",
    ),
    (
        SecretKind::Pem,
        r#"(?m)(?:^|\\+[nr]|["'\s])(?P<pemline>[A-Za-z0-9+/]{64}|MII[A-Za-z0-9+/=]{17,})(?:$|\\+[nr]|["'\s])"#,
    ),
    (SecretKind::Pem, r"AGE-SECRET-KEY-1[A-Z0-9]{20,}"),
    (SecretKind::Jwt, r"eyJ[A-Za-z0-9_-]{5,}(?:\.[A-Za-z0-9_-]*){1,4}"),
    // Of several parts, which go on to the end of the line.
    (
        SecretKind::Authorization,
        r#"(?i)(?P<keep>\b(?:proxy-)?authorization\\*["']?\s*[:=]\s*\\*["'\[]?)(?:digest|aws4-hmac-sha256|signature|oauth|hawk)\s[^\r\n]*"#,
    ),
    (
        SecretKind::Authorization,
        r#"(?i)(?P<keep>\b(?:proxy-)?authorization\\*["']?(?:\s*[:=]\s*|%3[ad])\\*["'\[]?)(?:[a-z][a-z0-9-]*(?:[ \t]+|%20))?[^\s"',;\\\]}]+"#,
    ),
    (SecretKind::Authorization, r"(?i)(?P<keep>\b(?:bearer|basic|digest|negotiate)(?:\s+|%20))[A-Za-z0-9+/=._~%-]{8,}"),
    (SecretKind::Authorization, r#"(?i)(?P<keep>\b(?:set-)?cookie\\*["']?\s*[:=]\s*\\*["'\[]?)[^\r\n"'\]]+"#),
    (SecretKind::UrlUserinfo, r#"(?P<keep>[A-Za-z][A-Za-z0-9+.-]{0,31}://)[^\s/?#"'<>]*@"#),
    // A password may hold what ends a host.
    (SecretKind::UrlUserinfo, r#"(?P<keep>[A-Za-z][A-Za-z0-9+.-]{0,31}://)[^\s/?#"'<>@:]*:[^\s"'<>@]*@"#),
    (SecretKind::UrlUserinfo, r#"(?i)(?P<keep>%3A%2F%2F)[^\s&"'<>/]*?%40"#),
    (SecretKind::UrlUserinfo, r#"\b[A-Za-z0-9_.-]{1,64}:[^\s"'@]{1,256}@(?P<tail>(?:tcp|udp|unix)\()"#),
    (
        SecretKind::UrlUserinfo,
        r#"\b[A-Za-z][A-Za-z0-9_.-]{0,63}:[^\s"'@/]{3,256}@(?P<tail>[A-Za-z][A-Za-z0-9.-]{0,253}:[0-9]{2,5}\b)"#,
    ),
    // An access key of AWS with the secret beside it, either way round; where several stand in a line, both sides of one.
    (
        SecretKind::Key,
        concat!(
            r"[A-Za-z0-9/+]{40}[^A-Za-z0-9/+]{1,16}(?:[A-Za-z_ ]{1,32}[^A-Za-z0-9/+]{1,8})?(?:AKIA|ASIA)[A-Z0-9]{16}",
            r"(?:[^A-Za-z0-9/+]{1,16}(?:[A-Za-z_ ]{1,32}[^A-Za-z0-9/+]{1,8})?[A-Za-z0-9/+]{40})?|",
            r"\b(?:AKIA|ASIA)[A-Z0-9]{16}[^A-Za-z0-9/+]{1,16}(?:[A-Za-z_ ]{1,32}[^A-Za-z0-9/+]{1,8})?[A-Za-z0-9/+]{40}",
        ),
    ),
    (SecretKind::Key, r"(?:AKIA|ASIA|AROA|AIDA|ABIA|ACCA)[A-Z0-9]{16}"),
    (SecretKind::Key, r"\b(?:AIza|ya29\.|GOCSPX-)[A-Za-z0-9_-]{10,}"),
    (
        SecretKind::Key,
        r"(?:gh[pousr]_[A-Za-z0-9]{20,}|github_pat_[A-Za-z0-9_]{20,}|gl(?:pat|dt|rt|ptt|ft|imt|agent|soat|cbt|oas)-[A-Za-z0-9_-]{16,})",
    ),
    (SecretKind::Key, r"\b(?:xox[abeoprs]-|xapp-)[A-Za-z0-9-]{8,}"),
    (
        SecretKind::Key,
        r"https://(?:hooks\.slack\.com/|(?:[a-z]+\.)?discord(?:app)?\.com/api/webhooks/|[A-Za-z0-9-]+\.webhook\.office\.com/)[A-Za-z0-9@/_-]+",
    ),
    (SecretKind::Key, r"\b(?:[srp]k_(?:live|test)_[A-Za-z0-9]{8,}|sk-[A-Za-z0-9_-]{16,}|whsec_[A-Za-z0-9+/=]{16,})"),
    (
        SecretKind::Key,
        r"\b(?:(?:SK|AC)[0-9a-f]{32}|key-[0-9a-f]{32}|dapi[0-9a-f]{32}|[0-9a-f]{32}-us[0-9]{1,2}|[0-9]{8,10}:AA[A-Za-z0-9_-]{33})",
    ),
    (
        SecretKind::Key,
        r"\b(?:npm|hf|gsk|r8|ntn|figd|fo1|sbp|lin_api|glsa|glc|sntrys|pscale_(?:tkn|pw|oauth)|do[opr]_v1|shp(?:at|ca|pa|ss)|tgp_v1|dckr_pat|FLWSECK_TEST)_[A-Za-z0-9]{16,}[A-Za-z0-9_-]*",
    ),
    (
        SecretKind::Key,
        r"\b(?:pypi-|hv[sbr]\.|SG\.|NRAK-|ATATT3|atlasv1\.|xai-|pplx-|sq0(?:atp|csp|idp)-|EAAA|dp\.[a-z]{2,6}\.)[A-Za-z0-9_.-]{16,}",
    ),
    (SecretKind::Key, r"[A-Za-z0-9]{3}8Q~[A-Za-z0-9_.~-]{31,}"),
    (SecretKind::Key, r"[A-Za-z0-9+/]{86}=="),
    // Dumps of an environment and YAML: the value is the rest of the line, whatever stands in it; also where the lines
    // stand in a quoted text.
    (
        SecretKind::Credential,
        r"(?m)(?P<keep>^[ \t]*(?:export[ \t]+|-[ \t]+|[+>][ \t]*)?[A-Z0-9_]{0,64}?(?P<key>(?:UPPER)[A-Z0-9_]{0,64})=)[^\s=][^\r\n]*",
    ),
    (
        SecretKind::Credential,
        r#"(?P<keep>\\[nr][ \t]*(?:export[ \t]+|-[ \t]+)?[A-Z0-9_]{0,64}?(?P<key>(?:UPPER)[A-Z0-9_]{0,64})=)[^\s=\\"](?:[^\r\n\\"]|\\+[^nr\\"])*"#,
    ),
    (
        SecretKind::Credential,
        r#"(?im)(?P<keep>^[ \t]*(?:-[ \t]+)?[A-Za-z0-9_.-]{0,64}?(?P<key>(?:WORD)[A-Za-z0-9_.-]{0,64}):[ \t]+)[^\s"'\[{|>\\&][^\r\n]*"#,
    ),
    (
        SecretKind::Credential,
        r#"(?i)(?P<keep>\\[nr][ \t]*(?:-[ \t]+)?[A-Za-z0-9_.-]{0,64}?(?P<key>(?:WORD)[A-Za-z0-9_.-]{0,64}):[ \t]+)[^\s"'\[{|>\\&](?:[^\r\n\\"]|\\+[^nr\\"])*"#,
    ),
    // The API server's `Name:"FOO_TOKEN", Value:"…"`.
    (
        SecretKind::Credential,
        r#"(?i)(?P<keep>\bname\\*["']?\s*[:=]\s*\\*["']?[A-Za-z0-9_.-]{0,64}?(?P<key>(?:WORD|auth)[A-Za-z0-9_.-]{0,64})\\*["']?\s*,\s*\\*["']?value\\*["']?\s*[:=]\s*)VALUE"#,
    ),
    (SecretKind::Credential, r"(?i)(?P<keep>(?P<key>(?:WORD)[A-Za-z0-9_.-]{0,64})QUOTEBETWEEN)VALUE"),
    (SecretKind::Credential, r#"(?P<keep>\\*["'](?P<key>auth)\\*["']\s*:\s*)VALUE"#),
    (
        SecretKind::Credential,
        r"(?i)(?P<keep><(?:[a-z0-9_:.-]{0,64}?)(?P<key>(?:WORD)[a-z0-9_.-]{0,64})(?:\s[^<>]*)?>)[^<\s][^<]*",
    ),
    // Arguments of commands.
    (
        SecretKind::Credential,
        r#"(?i)(?P<keep>(?:^|[^A-Za-z0-9-])--?[a-z0-9_.-]{0,32}?(?P<key>(?:WORD|\bpass)[a-z0-9_.-]{0,32})(?:\\*["']\s*,\s*\\*["']?|\s+\\*["']?))[^\s"'\]\\-][^\s"'\]\\]*"#,
    ),
    (
        SecretKind::Credential,
        r#"(?P<keep>\b(?:mysql[a-z]*|mariadb[a-z-]*|sshpass|docker login)\b[^\n|;]{0,200}?\s-p\s*)[^\s"'-][^\s"']*"#,
    ),
    (
        SecretKind::Credential,
        r#"(?P<keep>\b(?:curl|wget|http)\b[^\n|;]{0,400}?\s(?:-u|--user)[ =]*["']?)[^\s"':]+:[^\s"']+"#,
    ),
    (SecretKind::Credential, r"(?P<keep>\bredis-cli\b[^\n|;]{0,200}?\s-a\s+)\S+"),
    (SecretKind::Credential, r#"(?i)(?P<keep>\b(?:password|passwd|passphrase|pwd)\s+)(?:\\*"[^"]+"|\\*'[^']+')"#),
    (SecretKind::Email, r"[A-Za-z0-9._%+-]+(?:@|%40)[A-Za-z0-9-]+(?:\.[A-Za-z0-9-]+)*\.[A-Za-z]{2,}"),
    (SecretKind::Ip, r"\bip(?:-[0-9]{1,3}){4}\b"),
    (SecretKind::Ip, r"\b(?:[0-9]{1,3}\.){3}[0-9]{1,3}\b"),
    (SecretKind::Ip, r"(?i)(?:\b[0-9a-f]{1,4}|:):(?:[0-9a-f]{0,4}:){0,6}[0-9a-f]{0,4}(?:%[0-9a-z]+)?"),
    (SecretKind::Card, r"[0-9](?:[ -]?[0-9]){12,24}"),
];

/// How many patterns there are, so that a test can tell that each compiled.
#[cfg(test)]
pub(super) const COUNT: usize = TABLE.len();

/// The compiled table. A test compiles each pattern, so none is ever left out.
pub(super) fn all() -> Vec<Pattern> {
    let written = |pattern: &str| {
        pattern
            .replace("QUOTE", QUOTE)
            .replace("BETWEEN", BETWEEN)
            .replace("VALUE", VALUE)
            .replace("WORD", WORD)
            .replace("UPPER", UPPER)
    };
    TABLE
        .iter()
        .filter_map(|(kind, pattern)| {
            let regex = RegexBuilder::new(&written(pattern)).size_limit(SIZE).build().ok()?;
            Some(Pattern { kind: *kind, regex })
        })
        .collect()
}
