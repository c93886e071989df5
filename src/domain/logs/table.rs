//! The built-in patterns: what usually goes wrong, what it is called, and what usually helps.
//!
//! Role: one table, most particular first; `docs/logs.md` shows it and a test compares the two. Inputs: none. Outputs:
//! rows. Every expression is linear-time, ASCII and without regard to case. Must never import: other rooms.

use crate::domain::outcome::FailureClass;

/// One row.
#[derive(Debug, Clone, Copy)]
pub struct Row {
    /// What it is.
    pub issue: &'static str,
    /// The kind of failure.
    pub class: FailureClass,
    /// What usually helps.
    pub suggested_fix: &'static str,
    /// Any of these.
    pub any: &'static [&'static str],
    /// None of these: settings and good news that use the same words.
    pub unless: &'static [&'static str],
}

/// An answer of the 500s, noted by the server itself.
pub const SERVER_ERROR: Row = Row {
    issue: "server error (5xx)",
    class: FailureClass::Other,
    suggested_fix: "look at the errors logged at the same time; the status alone does not say why",
    any: &[
        r"\b(?:status(?:[ _-]?code)?|http(?:/[12](?:\.[01])?)?|code|response|returned|responded(?: with)?|got|answered|error)\b[ :=]{1,3}(?:code |status |http )?5\d\d\b(?:[^.\w%]|\.(?:\D|$)|$)",
        r"\b50[0-4] (?:internal server error|not implemented|bad gateway|service unavailable|gateway time-?out)",
        r"\b5\d\d server error\b",
        r"(?:^|: )internal server error(?:$|:)|\bhttperror 5\d\d\b",
        r"\bupstream (?:prematurely closed|connect error or disconnect)|\bno live upstreams\b|\bupstream request failed\b",
    ],
    // Django writes this in front of a trace, which says more.
    unless: &[r"^internal server error: /\S*: \w"],
};

/// An answer of 404, noted by the server itself.
pub const NOT_FOUND: Row = Row {
    issue: "not found (404)",
    class: FailureClass::Other,
    suggested_fix: "check the path and the route, and that the version that is called has it",
    any: &[
        r"\b(?:status(?:[ _-]?code)?|http(?:/[12](?:\.[01])?)?|code|response|returned|responded with|got|answered)\b[ :=]{1,3}(?:code |status |http )?404\b(?:[^.\w%]|\.(?:\D|$)|$)",
        r"\b404 (?:not found|client error|page not found)\b|\bhttperror: 404\b",
        r"^not found: /|\bno route matches\b|\bno mapping for (?:get|post|put|delete|patch) |\bno static resource\b|\bNotFoundHttpException\b",
    ],
    unless: &[],
};

/// Somebody limits the rate.
pub const RATE_LIMIT: Row = Row {
    issue: "rate limited",
    class: FailureClass::RateLimit,
    suggested_fix: "send less, back off as the answer's Retry-After says, or ask for a higher limit",
    any: &[
        r"\btoo many requests\b|\b(?:status(?:[ _-]?code)?|http(?:/[12](?:\.[01])?)?|code|response|returned|responded with|got|error)\b[ :=]{1,3}429\b",
        r"\brate[ -]?limit(?:ed|er)?(?: was| has been| is)? (?:exceeded|reached|hit)\b|\brate[ -]?limit(?:ed|ing) (?:by|request|exceeded)\b|\bRateLimit(?:Error|Exceeded)",
        r"\bexceeded (?:your |the )?(?:current )?(?:rate|quota|api rate)\b|\bquota (?:has been )?exceeded\b|\bThrottling(?:Exception|Error)\b|\brequest(?: was| rate is)? (?:throttled|too large)\b|\brequest limit exceeded\b|\bis being rate limited\b|\blimiting requests, excess\b",
    ],
    unless: &[r"\bdisk quota\b"],
};

/// A trace that nobody caught.
pub const UNCAUGHT: Row = Row {
    issue: "panic or uncaught exception",
    class: FailureClass::Crash,
    suggested_fix: "fix what the trace names; it ended the process or a thread of it",
    any: &[
        r"^panic: |^fatal error: |\bpanicked at\b|^unhandled exception|\buncaught (?:exception|error)\b|\bunhandled(?: promise)? rejection\b|\bUnhandledPromiseRejection|\bphp (?:fatal|parse) error\b",
        r"\bsegmentation fault\b|\bSIGSEGV\b|\bSIGABRT\b|\bcore dumped\b|\bStackOverflowError\b|\bmaximum call stack size exceeded\b|\bstack overflow\b|\bexited on signal \d+",
        r"\bpanic serving\b|\brecovered from panic\b|\bpanic recovered\b",
    ],
    unless: &[],
};

/// A trace in a log.
pub const LOGGED: Row = Row {
    issue: "exception",
    class: FailureClass::Other,
    suggested_fix: "look at what the trace names; it was caught and logged",
    any: &[],
    unless: &[],
};

/// All that are looked for in text, most particular first.
pub const ROWS: &[Row] = &[
    Row {
        issue: "out of memory",
        class: FailureClass::Oom,
        suggested_fix: "raise the container's memory limit, or find what holds the memory",
        any: &[
            r"\bOutOfMemoryError\b|\bout of memory\b|\bheap out of memory\b|\bcannot allocate memory\b|\bMemoryError\b|\bOOM[ -]?killed\b|\boom-kill|\bENOMEM\b",
            r"\ballowed memory size of \d+ bytes exhausted\b|\bmemory allocation of \d+ bytes failed\b|\bOutOfMemoryException\b|\bNoMemoryError\b|\bgc overhead limit exceeded\b|\bworker .{0,40}was sent SIGKILL! perhaps out of memory",
        ],
        unless: &[],
    },
    Row {
        issue: "memory leak warning",
        class: FailureClass::MemoryLeak,
        suggested_fix: "find what is never released; listeners and buffers are the usual ones",
        any: &[
            r"\bmemory leak detected\b|\bLEAK: .{0,40}release\(\) was not called\b|\bprobably forgot to (?:remove|stop) (?:it|them)\b|\bhave started .{0,120}but has failed to stop it\b",
        ],
        unless: &[],
    },
    Row {
        issue: "disk full",
        class: FailureClass::Other,
        suggested_fix: "free or enlarge the volume, or write less; check emptyDir and ephemeral-storage limits",
        any: &[
            r"\bno space left on device\b|\bENOSPC\b|\bdisk (?:is )?full\b|\bdisk quota exceeded\b|\bnot enough (?:free )?(?:disk )?space\b|\bdisk usage exceeded\b|\bflood stage disk watermark\b",
        ],
        unless: &[],
    },
    Row {
        issue: "too many open files",
        class: FailureClass::Other,
        suggested_fix: "close what is opened, or raise the limit of open files",
        any: &[r"\btoo many open files\b|\bEMFILE\b|\bENFILE\b"],
        unless: &[],
    },
    Row {
        issue: "deadlock",
        class: FailureClass::DatabaseTimeout,
        suggested_fix: "take locks in one order, keep transactions short, retry the one that was chosen as victim",
        any: &[
            r"\bdeadlock (?:detected|found)\b|\bdeadlocked\b|\bDeadlock(?:LoserDataAccess)?Exception\b|\bLockNotGranted\b|\block wait timeout exceeded\b|\ball goroutines are asleep\b|\bdatabase is locked\b|\bcould not serialize access\b|\bORA-00060\b|\bdeadlock victim\b|\bLock(?:Wait)?Timeout(?:Exception|Error)?\b|\bPessimisticLockException\b|\bCannotAcquireLockException\b|\bdatabase table is locked\b|\bSQLITE_BUSY\b|\block request time ?out period exceeded\b",
        ],
        unless: &[],
    },
    Row {
        issue: "database pool exhausted",
        class: FailureClass::DatabaseTimeout,
        suggested_fix: "look for connections that are not given back and slow queries; only then enlarge the pool",
        any: &[
            r"\bconnection is not available, request timed out\b|\bQueuePool limit of size\b|\bPoolTimeoutError\b|\bcould not obtain (?:a )?(?:database )?connection (?:within|from the pool)\b|\bconnection pool (?:is |has been |was )?(?:exhausted|timed out|timeout)\b",
            r"\bPoolExhaustedException\b|\bunable to fetch a connection in\b|\bcannot get a connection, (?:pool|general) error\b|\btimeout waiting for idle object\b|\bcheckout a connection has timed out\b|\bGetConnectionTimeoutException\b|\bacquisition timeout!|\bconnection acquisition timed out\b|\bPoolAcquire\w{3,20}Exception\b|\bpsycopg_pool\.PoolTimeout\b|\b(?:couldn't|could not) get a connection (?:after|within|from)\b",
            r"\btimeout exceeded when trying to connect\b|\bTooManyConnectionsError\b|\bER_CON_COUNT_ERROR\b|\bConnectionPool::TimeoutError\b|\bwaited [\d.]+ sec, \d+/\d+ available\b|\bSequel::PoolTimeout\b|\bActiveRecord::ConnectionTimeoutError\b|\bconnection not available and request was dropped from queue\b|\bcould not get a resource from the pool\b|\bExhaustedPoolException\b|\bWaitQueueTimeoutError\b|\bwhile checking out a connection from (?:the )?connection pool\b|\bsqlalchemy\.exc\.TimeoutError\b",
            r"\bsorry, too many clients already\b|\bremaining connection slots are reserved\b|\btoo many connections\b|\bpool timed out while waiting\b|\btimed? ?out (?:fetching|acquiring|waiting for|obtaining) (?:a |an )?(?:new )?(?:idle )?connection\b|\btimeout acquiring a connection\b|\btimeout period elapsed prior to obtaining a connection\b|\bConnectionPoolTimeout|\bTimeoutError: ResourceRequest timed out\b|ConnectionAcquireTimeoutError\b",
        ],
        unless: &[],
    },
    Row {
        issue: "database timeout",
        class: FailureClass::DatabaseTimeout,
        suggested_fix: "look at the database's load and slow queries; check indexes of what this version asks",
        any: &[
            r"\bcanceling statement due to (?:statement|lock|user|idle).{0,12}(?:timeout|request)\b|\bquery (?:execution )?(?:was interrupted|timed out|timeout)\b|\bstatement timed? ?out\b|\bmaximum statement execution time exceeded\b|\bQueryTimeout(?:Exception|Error)\b|\bQueryCancel(?:l?ed)?(?:Error)?\b|\bServerSelectionTimeoutError\b|\bMongo\w{0,30}Time(?:d)?out\w{0,12}\b|\bserver selection (?:timed out|timeout)\b|\bSQLTimeoutException\b|\bexecution timeout expired\b|\bReadTimeoutException: query\b|\bOperationTimedOut: errors=",
            r"\bbuffering timed out after\b|\boperation exceeded time limit\b|\bMaxTimeMSExpired\b|\bpymongo\.errors\.\w{0,20}Timeout\b|\bActiveRecord::(?:Statement|Adapter)Timeout\b|\bchecked out the connection for longer than\b|\bidle-in-transaction timeout\b|\bTransactionTimedOutException\b|\btimeout for this transaction\b|\btransaction timed out\b|\bDriverTimeoutException\b|\bcassandra timeout during\b|\bORA-(?:01013|02049|12170|12535)\b|\bPROTOCOL_SEQUENCE_TIMEOUT\b|\bconnection to server at .{0,120}\b(?:timed out|timeout expired)\b",
            r"(?:\b(?:database|db|pq|pgx(?:pool)?|pgbouncer|jdbc|jedis|lettuce|cassandra|clickhouse|DbCommand|Db(?:Context|Connection)\w{0,20}|ORA-\d+)\b|sql|postgres|psycopg|asyncpg|mongo|redis|mariadb|sequelize|knex|prisma|hibernate).{0,160}(?:\btimed out\b|\bi/o timeout\b|\bdeadline exceeded\b|\btimeout (?:exceeded|expired|during|while|after|error|reading|performing|waiting)\b|\bETIMEDOUT\b|\bconnection timeout(?:$|[^\w\s:=-])|Time(?:d)?out(?:Error|Exception)\b|\boperation timeout\b|\bstatement timeout\b)",
            r"\b(?:timed out|time-?out|deadline exceeded)\b.{0,40}\b(?:to|from|for|on|querying|executing|reading) (?:the )?(?:database|postgres\w{0,4}|mysql|mariadb|redis|mongo\w{0,2}|query|sql|statement)\b",
            r"\bRedisTimeoutException\b|\bredis(?:Command|Connection)Timeout|\bcommand timed out\b",
        ],
        unless: &[
            r"\b(?:timeout|timed out)\b.{0,20}\b(?:set to|configured|disabled|deprecated)\b|\b0 (?:\w+ )?timed out\b|\btimed out: 0\b",
        ],
    },
    Row {
        issue: "name not resolved",
        class: FailureClass::DependencyUnavailable,
        suggested_fix: "check the host name in the configuration, that the Service exists, and the cluster's DNS",
        any: &[
            r"\bno such host\b|\bENOTFOUND\b|\bEAI_AGAIN\b|\bUnknownHostException\b|\bname or service not known\b|\btemporary failure in name resolution\b|\bcould not translate host name\b|\bfailed to resolve\b|\bname resolution (?:failed|error)\b|\bNameResolutionError\b|\bnodename nor servname provided\b|\bgetaddrinfo failed\b|\bfailed to lookup address\b|\bhost not found in upstream\b|\bcould not resolve host\b|\bNXDOMAIN\b|\bSERVFAIL\b|\bno such host is known\b|\bcould not be resolved\b|\bphp_network_getaddresses\b",
        ],
        unless: &[],
    },
    Row {
        issue: "certificate or TLS failure",
        class: FailureClass::ConfigError,
        suggested_fix: "check the certificate's issuer, names and dates, and which authorities the client trusts",
        any: &[
            r"\bx509: |\bcertificate (?:verify failed|has expired|is not trusted|signed by unknown authority|is not yet valid|expired|required|not valid)\b|\bCERT_HAS_EXPIRED\b|\bSSLHandshakeException\b|\bPKIX path\b|\bSSL(?:Error|_ERROR_\w+|CertVerificationError)\b|\bself[- ]signed certificate\b|\bUNABLE_TO_VERIFY_LEAF_SIGNATURE\b|\bDEPTH_ZERO_SELF_SIGNED_CERT\b|\bERR_TLS_CERT_ALTNAME_INVALID\b|\btls: (?:handshake failure|failed to verify|bad certificate|unknown certificate|first record does not look like)|\btls handshake (?:error|failed|failure|timeout)\b|\bSSL_do_handshake\(\) failed\b|\bhostname.{0,80}doesn't match\b|\bAuthenticationException: The remote certificate\b|\binvalid peer certificate\b|\bssl connection could not be established\b|\bssl routines:|\bUnknownIssuer\b|\bSSL: error\b",
        ],
        unless: &[],
    },
    Row {
        issue: "connection refused",
        class: FailureClass::DependencyUnavailable,
        suggested_fix: "check that the service runs, has ready endpoints, and listens on that port",
        any: &[
            r"\bconnection refused\b|\bECONNREFUSED\b|\bConnectionRefused(?:Error)?\b|\bactively refused\b|\bconnect: refused\b|\bconnection to .{0,120} refused\b|\bNo connection could be made\b",
        ],
        unless: &[],
    },
    Row {
        issue: "port in use",
        class: FailureClass::ConfigError,
        suggested_fix: "let every process of the pod listen on a port of its own; look for one that was not ended",
        any: &[
            r"\baddress already in use\b|\bEADDRINUSE\b|\bport \d+ (?:is |was )?already (?:in use|allocated|being used)\b|\bport \d+ is in use\b|\baddress in use\b|\bBindException\b|\bonly one usage of each socket address\b|\bconnection in use: \(",
        ],
        unless: &[],
    },
    Row {
        issue: "migration or schema",
        class: FailureClass::ConfigError,
        suggested_fix: "run this version's migrations first, or make the change in steps that both versions bear",
        any: &[
            r#"\b(?:relation|column|table|type|function) \\?["'`]?[\w.$]+\\?["'`]?(?: of relation \S+)? does(?:n't| not) exist\b|\bunknown column\b|\bno such (?:table|column)\b|\bundefined (?:table|column)\b|\bundefinedcolumn\b|\bundefinedtable\b|\binvalid (?:object|column) name\b|\btable '[\w.]+' doesn't exist\b|\bbase table or view not found\b|\bcolumn not found\b"#,
            r"\bmigrations? (?:\S+ )?(?:failed|are pending|is pending|error|could not be applied|checksum mismatch)\b|\bpending migrations?\b|\bPendingMigrationError\b|\bFlyway(?:Validate|Migrate)?Exception\b|\bLiquibaseException\b|\bMigrationFailedException\b|\bschema[- ]validation: |\bSchemaManagementException\b|\bdirty database version\b|\bunapplied migration|\bcan't locate revision\b|\bValidationFailedException: Validation Failed: \d+ change ?sets?\b|\bORA-00942\b",
        ],
        unless: &[r"\bno (?:pending )?migrations? (?:to|pending|are)\b"],
    },
    Row {
        issue: "missing module",
        class: FailureClass::Crash,
        suggested_fix: "put the dependency into the image: lock file, build stage, path, architecture",
        any: &[
            r"\bcannot find (?:module|package)\b|\bModuleNotFoundError\b|\bno module named\b|\bMODULE_NOT_FOUND\b|\bERR_MODULE_NOT_FOUND\b|\bImportError\b|\bClassNotFoundException\b|\bNoClassDefFoundError\b|\bcannot load such file\b|\buninitialized constant\b|\bcould not (?:find|load) (?:or load )?(?:main class|file or assembly)\b|\berror while loading shared libraries\b|\bclass \\?['\x22]?[\w\\]+\\?['\x22]? not found\b|\bfailed (?:to open|opening) required\b|\bexecutable file not found in \$PATH\b|\bcould not find gem\b|\bbundler: failed to load\b|\bNoSuchMethodError\b|\bexec format error\b",
        ],
        unless: &[],
    },
    Row {
        issue: "missing configuration",
        class: FailureClass::ConfigError,
        suggested_fix: "set what it names; compare env, ConfigMaps and Secrets of both revisions",
        any: &[
            r"\b(?:missing|required|mandatory|undefined|unset) (?:required )?(?:env(?:ironment)?(?: variables?)?|config(?:uration)?(?: key| value| option| property| file| parameter)?|settings?|secret(?: key)?|api key|propert(?:y|ies))\b",
            r#"\benv(?:ironment)? (?:variable|var)s? (?:\S+ )?(?:(?:is|are|was|were) )?(?:not (?:set|found|defined|present)|missing|required|unset|must be set)\b|\benvironment variable not found\b|\bNotPresent\b|\bmust (?:be|provide) (?:set|configured)\b.{0,40}\benv|\b(?-i:[A-Z][A-Z0-9]*_[A-Z0-9_]+)\\?["'`]? (?:environment variable )?(?:(?:is|was) )?(?:not (?:set|defined|configured)|required|missing|must be set|must not be empty)\b"#,
            r#"\bKeyError: \\?'(?-i:[A-Z][A-Z0-9]*_[A-Z0-9_]+)|\bkey not found: \\?"(?-i:[A-Z][A-Z0-9]*_[A-Z0-9_]+)|\bcould not resolve placeholder\b|\bImproperlyConfigured\b|\bNo application encryption key\b|\bmissing `?secret_key_base\b|\bfailed to bind properties\b|\bno (?:config(?:uration)? file|such config)\b|\bfailed to (?:load|read|parse|open) (?:the )?(?:config|configuration|settings)\b|\b(?:invalid|bad) config(?:uration)?(?: value| file)?\b|\bconfig(?:uration)? (?:file )?(?:\S+ )?(?:not found|does not exist|is invalid|error|could not be (?:read|loaded))\b|\bUndefined (?:array key|index):? \\?"(?-i:[A-Z][A-Z0-9]*_[A-Z0-9_]+)|\bconnection string .{0,40}(?:not (?:found|been initialized)|missing)|\bvalue cannot be null\..{0,12}parameter \\?'connectionString|\b(?:options|settings) validation failed\b|\bOptionsValidationException\b|\bvalidation errors? for (?:\w+)?settings\b|\bNo DataSource set\b|\bFailed to configure a DataSource\b|\bunknown (?:command line )?flag\b|\bflag provided but not defined\b|\bmissing required (?:argument|flag|option|field)\b|\bfield required\b"#,
        ],
        unless: &[],
    },
    Row {
        issue: "authentication failed",
        class: FailureClass::ConfigError,
        suggested_fix: "check user, password, token and their Secret; they may have been rotated",
        any: &[
            r"\bauthentication fail(?:ed|ure)\b|\bpassword authentication failed\b|\baccess denied for user\b|\binvalid (?:credentials|username or password|api key|access token|token|grant|client secret|signature|jwt)\b|\b(?:token|jwt|credentials?)(?: has| have| is)? expired\b|\bTokenExpiredError\b|\bJsonWebTokenError\b|\bAuthenticationError\b|\bBadCredentialsException\b|\bWRONGPASS\b|\bNOAUTH\b|\bInvalidAccessKeyId\b|\bSignatureDoesNotMatch\b|\b401 (?:unauthorized|client error)\b|\b(?:status(?:[ _-]?code)?|http(?:/[12](?:\.[01])?)?|code|returned|responded with|got)\b[ :=]{1,3}(?:code |status )?401\b|\bunauthenticated\b|\bSASL authentication\b|\bLogin failed for user\b|\bunable to authenticate\b|\brole \S+ does not exist\b|\bAuthenticationException\b|\bUnauthorizedError\b|\bACCESS_REFUSED\b|\bInvalidClientTokenId\b|\bunable to locate credentials\b",
        ],
        unless: &[],
    },
    Row {
        issue: "permission denied",
        class: FailureClass::ConfigError,
        suggested_fix: "grant what it names, or run with the user and file modes it needs (securityContext, fsGroup, RBAC)",
        any: &[
            r"\bpermission denied\b|\bEACCES\b|\bEPERM\b|\boperation not permitted\b|\bPermissionError\b|\bAccessDenied(?:Exception)?\b|\bAccessDeniedException\b|\bis not authorized to perform\b|\bis forbidden: User\b|\b403 forbidden\b|\b403 client error\b|\b(?:status(?:[ _-]?code)?|http(?:/[12](?:\.[01])?)?|code|returned|responded with|got)\b[ :=]{1,3}(?:code |status )?403\b|\bread-only file system\b|\bEROFS\b|\binsufficient (?:privilege|permission)s?\b|\bUnauthorizedAccessException\b|\baccess to the path .{0,120} is denied\b|\bcommand denied to user\b|\bPermissionDenied\b",
        ],
        unless: &[],
    },
    RATE_LIMIT,
    Row {
        issue: "circuit breaker open",
        class: FailureClass::DependencyUnavailable,
        suggested_fix: "look at the service behind it; the breaker only says that it failed often",
        any: &[
            r"\bcircuit ?breaker .{0,80}\b(?:is open|opened|tripped)\b|\bcircuit (?:is )?(?:now )?open\b|\bCallNotPermittedException\b|\bBrokenCircuitException\b|\bOpen(?:Circuit)?Error: Breaker is open\b|\bbreaker is open\b",
        ],
        unless: &[],
    },
    Row {
        issue: "timeout",
        class: FailureClass::DependencyUnavailable,
        suggested_fix: "look at the service it waits for; raise the limit only if the answer may take that long",
        any: &[
            r"\btimed out\b|\bcontext deadline exceeded\b|\bdeadline exceeded\b|\bDeadlineExceeded\b|\bDEADLINE_EXCEEDED\b|\bi/o timeout\b|\bETIMEDOUT\b|\bESOCKETTIMEDOUT\b|\b(?:Socket|Connect|Read|Request|Http|Client|Gateway|Connection|Write|Poll)?Timeout(?:Error|Exception|Expired)\b|\bConnectTimeout\b|\bReadTimeout\b|\btimeout of \d+ ?ms exceeded\b|\bhung up.{0,20}timeout\b",
            r"\btimeout (?:exceeded|expired|reached|elapsed|while|waiting|after|awaiting|occurred|on endpoint|period elapsed)\b|\b(?:gateway|request|read|connect(?:ion)?|response|upstream|socket|handshake|worker) time-?out\b(?: ?[.(:]| \(|$| for| from| to| on| in \d)|\bWORKER TIMEOUT\b|\btimeout!|\bcURL error 28\b|\bmaximum execution time of \d+ seconds? exceeded\b|\bTask.{0,20}was canceled due to the configured HttpClient\.Timeout\b|\bTaskCanceledException\b|\bhas elapsed without a response\b|\bdid not (?:respond|answer|reply) (?:with)?in (?:time|\d)",
        ],
        unless: &[
            r"\b(?:requests|calls|tasks|jobs) timed out: 0\b|\b0 (?:\w+ )?timed out\b|\b(?:never|not|no \w+|none) timed out\b",
        ],
    },
    Row {
        issue: "connection lost",
        class: FailureClass::DependencyUnavailable,
        suggested_fix: "look at the other side at that time: restarts, idle limits, proxies between the two",
        any: &[
            r"\bconnection (?:was |has been |is |already )?(?:reset|closed|aborted|lost|terminated)\b|\bECONNRESET\b|\bbroken pipe\b|\bEPIPE\b|\bsocket hang up\b|\bserver closed the connection\b|\bunexpected eof\b|\bEOFException\b|\bConnectionResetError\b|\bserver has gone away\b|\blost connection to \w+ server\b|\bBrokenPipeError\b|\bRemoteDisconnected\b|\bterminating connection due to administrator command\b|\bforcibly closed by the remote host\b|\bConnectionError\b|\bcommunications link failure\b|\bpeer closed connection\b|\bbroken transport\b",
        ],
        unless: &[],
    },
    Row {
        issue: "no route",
        class: FailureClass::DependencyUnavailable,
        suggested_fix: "check network policies, the address, and whether the service has ready endpoints",
        any: &[
            r"\bno route to host\b|\bEHOSTUNREACH\b|\bENETUNREACH\b|\bnetwork is unreachable\b|\bhost is unreachable\b|\bNoRouteToHostException\b|\bno healthy upstream\b|\bno endpoints available\b|\bbroker(?:s)? (?:may )?not (?:be )?available\b|\bNoBrokersAvailable\b|\b(?:service|server|upstream|host) (?:is )?unreachable\b|\ball brokers? (?:are )?down\b|\bfailed to connect to (?:all addresses|\S+ port)\b|\bcould not connect to (?:redis|server|the endpoint)\b",
        ],
        unless: &[],
    },
    SERVER_ERROR,
    NOT_FOUND,
    UNCAUGHT,
];
