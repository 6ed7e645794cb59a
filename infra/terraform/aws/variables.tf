variable "name" {
  description = "Put before the names of everything that is made here."
  type        = string
  default     = "flagedge"

  validation {
    condition     = can(regex("^[a-z][a-z0-9-]{1,22}[a-z0-9]$", var.name))
    error_message = "The name is 3 to 24 lower-case letters, digits and hyphens, begins with a letter and ends with none of the hyphens."
  }
}

variable "packages" {
  description = "The functions' zips, as `make package` writes them into dist/. `log_consumer` may be null: then the consumer runs elsewhere."
  type = object({
    sync_job     = string
    log_consumer = optional(string)
  })

  validation {
    condition     = alltrue([for path in values(var.packages) : path == null || can(filesha256(path))])
    error_message = "There is no such zip: `make package` builds sync-job-ARCHITECTURE.zip and log-consumer-ARCHITECTURE.zip."
  }
}

variable "architecture" {
  description = "What the zips were built for: `arm64` (cheaper by a fifth) or `x86_64`."
  type        = string
  default     = "arm64"

  validation {
    condition     = contains(["arm64", "x86_64"], var.architecture)
    error_message = "The architecture is \"arm64\" or \"x86_64\"."
  }
}

variable "cloudflare_account_id" {
  description = "The Cloudflare account that the Worker runs in."
  type        = string

  validation {
    condition     = can(regex("^[0-9a-f]{32}$", var.cloudflare_account_id))
    error_message = "The account id is 32 hexadecimal digits; the dashboard's URL shows it."
  }
}

variable "worker_name_prefix" {
  description = "The setting WORKER_NAME_PREFIX of both jobs; empty for none."
  type        = string
  default     = ""

  validation {
    condition     = can(regex("^([a-z0-9]([a-z0-9-]{0,30}[a-z0-9])?)?$", var.worker_name_prefix))
    error_message = "The prefix is up to 32 lower-case letters, digits and hyphens, without a hyphen at either end."
  }
}

variable "resources_owner" {
  description = "Who makes queues, pull consumer and KV namespaces at Cloudflare: `terraform` (then sync-job refuses to), or `sync-job`."
  type        = string
  default     = "sync-job"

  validation {
    condition     = contains(["terraform", "sync-job"], var.resources_owner)
    error_message = "The owner is \"terraform\" or \"sync-job\"."
  }
}

variable "sticky_assignments" {
  description = "Whether the Worker keeps sticky assignments, in a KV namespace."
  type        = bool
  default     = false
}

variable "worker_metrics" {
  description = "Whether the Worker answers `GET /metrics`, from a KV namespace."
  type        = bool
  default     = false
}

variable "publish" {
  description = "How new states reach the Worker: `deploy`, each as a version of it, or `kv`, by way of a KV namespace, with a version once an hour."
  type        = string
  default     = "deploy"

  validation {
    condition     = contains(["deploy", "kv"], var.publish)
    error_message = "New states are published by \"deploy\" or \"kv\"."
  }
}

variable "rules_ttl_ms" {
  description = "With `publish = \"kv\"`, how often each isolate of the Worker looks for a newer state, in milliseconds."
  type        = number
  default     = 30000

  validation {
    condition     = var.rules_ttl_ms >= 100 && var.rules_ttl_ms <= 3600000 && floor(var.rules_ttl_ms) == var.rules_ttl_ms
    error_message = "rules_ttl_ms is a whole number from 100 to 3600000."
  }
}

variable "max_blast_radius" {
  description = "A run deploys no state by itself that changes the answers to a flag for a larger share of units, 0 to 1; null for any."
  type        = number
  default     = null

  validation {
    condition     = var.max_blast_radius == null ? true : var.max_blast_radius >= 0 && var.max_blast_radius <= 1
    error_message = "max_blast_radius is a share from 0 to 1."
  }
}

variable "pages" {
  description = "Pages that the Worker serves in front of an origin (docs/pages.md): flags by path, such as {\"/shop/*\" = [\"checkout\"]}, sources by attribute, such as {country = \"cf:country\"}. A source `signed:` wants the secret sync-job/PAGE_ATTRIBUTE_KEYS. Null for none."
  type = object({
    flags   = map(list(string))
    context = optional(map(string), {})
    origin  = optional(string, "")
    cookie  = optional(string, "")
    client  = optional(string, "")
    access  = optional(object({ team = string, audience = string }))
  })
  default = null

  validation {
    condition     = var.pages == null ? true : length(var.pages.flags) > 0 && alltrue([for path in keys(var.pages.flags) : can(regex("^/[^*?# ]*[*]?$", path))])
    error_message = "pages.flags has flags by path: /, /shop, or /shop/* for all that begins so."
  }
  validation {
    condition     = var.pages == null ? true : alltrue([for source in values(var.pages.context) : can(regex("^((cf|cookie|header|query|signed|access):[^ :]+|path|host|visitor)$", source))])
    error_message = "The sources of pages.context are cf:FIELD, cookie:NAME, header:NAME, query:NAME, signed:ATTRIBUTE, access:CLAIM, path, host and visitor."
  }
  validation {
    condition     = var.pages == null ? true : alltrue([for attribute, source in var.pages.context : can(regex("^(visitor$|signed:|access:)", source)) if contains(["targeting_key", "targetingKey"], attribute)])
    error_message = "The unit in pages.context, targeting_key, comes from visitor (its default), signed:ATTRIBUTE or access:CLAIM."
  }
  validation {
    condition     = var.pages == null ? true : !anytrue([for source in values(var.pages.context) : can(regex("(?i)^header:(cf-connecting-ip|cf-connecting-ipv6|cf-pseudo-ipv4|forwarded|true-client-ip|x-forwarded-for|x-real-ip)$", source))])
    error_message = "An IP address is no attribute of pages.context: take a field such as cf:country, or leave it out."
  }
  validation {
    condition     = var.pages == null ? true : var.pages.access != null || !anytrue([for source in values(var.pages.context) : startswith(source, "access:")])
    error_message = "Claims of Cloudflare Access need pages.access: the team and the audience of an application."
  }
}

variable "sync" {
  description = "How sync-job runs. `settings` are further settings by their names in docs/settings.md; what is secret goes into `more_secrets` or `existing_secrets`, which alone the function may read."
  type = object({
    schedule_minutes = optional(number, 1)
    timeout_s        = optional(number, 120)
    memory_mb        = optional(number, 1024)
    settings         = optional(map(string), {})
  })
  default = {}

  validation {
    condition     = var.sync.schedule_minutes >= 1 && var.sync.schedule_minutes <= 60 && floor(var.sync.schedule_minutes) == var.sync.schedule_minutes
    error_message = "sync.schedule_minutes is a whole number from 1 to 60; the scheduler knows nothing shorter."
  }
  validation {
    condition     = var.sync.timeout_s >= 90 && var.sync.timeout_s <= 900
    error_message = "sync.timeout_s is 90 to 900: a deployment takes up to a minute, and a run without the time for it does not begin to write."
  }
  validation {
    condition     = var.sync.memory_mb >= 512 && var.sync.memory_mb <= 10240
    error_message = "sync.memory_mb is 512 to 10240."
  }
  validation {
    condition     = length(setintersection(keys(var.sync.settings), concat(keys(local.sync_environment), keys(local.secrets_of.sync-job)))) == 0
    error_message = "sync.settings repeats a setting that this module sets from a variable or a secret of its own."
  }
  validation {
    condition     = !anytrue([for value in values(var.sync.settings) : can(regex("^(arn:|aws-secretsmanager:|aws-ssm:)", value))])
    error_message = "sync.settings names a secret of AWS, which the function's role may not read: name it in existing_secrets, or have it made by more_secrets."
  }
}

variable "consumer" {
  description = "How log-consumer runs. A run that is over its time ends well, and the next one goes on; so `timeout_s` stays below the schedule. `maintain_at_utc` is when the lake is put in order: minute, hour, day, month, weekday, year."
  type = object({
    schedule_minutes = optional(number, 5)
    timeout_s        = optional(number, 270)
    memory_mb        = optional(number, 2048)
    scratch_mb       = optional(number, 2048)
    maintain_at_utc  = optional(string, "17 3 * * ? *")
    settings         = optional(map(string), {})
  })
  default = {}

  validation {
    condition     = var.consumer.schedule_minutes >= 1 && var.consumer.schedule_minutes <= 60 && floor(var.consumer.schedule_minutes) == var.consumer.schedule_minutes
    error_message = "consumer.schedule_minutes is a whole number from 1 to 60."
  }
  validation {
    condition     = var.consumer.timeout_s >= 60 && var.consumer.timeout_s <= min(900, var.consumer.schedule_minutes * 60)
    error_message = "consumer.timeout_s is 60 to 900, for the last 30 seconds pull nothing, and no longer than the time to the next run: with a concurrency of one that would be dropped."
  }
  validation {
    condition     = var.consumer.memory_mb >= 1024 && var.consumer.memory_mb <= 10240
    error_message = "consumer.memory_mb is 1024 to 10240: DuckDB and a batch of 32 MB have to fit."
  }
  validation {
    condition     = var.consumer.scratch_mb >= 512 && var.consumer.scratch_mb <= 10240
    error_message = "consumer.scratch_mb is 512 to 10240."
  }
  validation {
    condition     = can(regex("^[1-5]?[0-9] (1?[0-9]|2[0-3]) \\S+ \\S+ \\S+ \\S+$", var.consumer.maintain_at_utc)) && length(regexall("[?]", var.consumer.maintain_at_utc)) == 1
    error_message = "consumer.maintain_at_utc has the six fields of EventBridge's cron, such as \"17 3 * * ? *\"; minute and hour are numbers, and day or weekday is a question mark."
  }
  validation {
    condition     = length(setintersection(keys(var.consumer.settings), concat(keys(local.consumer_environment), keys(local.secrets_of.log-consumer)))) == 0
    error_message = "consumer.settings repeats a setting that this module sets from a variable or a secret of its own."
  }
  validation {
    condition     = !anytrue([for value in values(var.consumer.settings) : can(regex("^(arn:|aws-secretsmanager:|aws-ssm:)", value))])
    error_message = "consumer.settings names a secret of AWS, which the function's role may not read: name it in existing_secrets, or have it made by more_secrets."
  }
}

variable "forward" {
  description = "Whether log-consumer forwards flag logs to Confidence. Its setting CONFIDENCE_ACCOUNT, in `consumer.settings`, adds the destination that the official Worker has."
  type        = bool
  default     = true
}

variable "catalogue" {
  description = "The Postgres database that holds the lake's catalogue; needed with packages.log_consumer. Its password is the secret log-consumer/DATABASE_PASSWORD."
  type = object({
    host     = string
    port     = optional(number, 5432)
    database = string
    user     = string
    sslmode  = optional(string, "require")
  })
  default = null

  validation {
    condition     = (var.catalogue == null) == (var.packages.log_consumer == null)
    error_message = "A consumer on Lambda needs a catalogue, and a catalogue is for nothing else: give both, packages.log_consumer and catalogue, or neither."
  }
  validation {
    condition     = var.catalogue == null ? true : can(regex("^[^:/@]+$", var.catalogue.host)) && var.catalogue.port >= 1 && var.catalogue.port <= 65535
    error_message = "catalogue.host is a name or an address without a port, which is catalogue.port: 1 to 65535."
  }
  validation {
    condition     = var.catalogue == null ? true : can(regex("^[a-z0-9_-]+$", var.catalogue.database)) && can(regex("^[A-Za-z0-9_-]+$", var.catalogue.user))
    error_message = "catalogue.database and catalogue.user are letters, digits, hyphens and underscores."
  }
  validation {
    condition     = var.catalogue == null ? true : contains(["require", "verify-ca", "verify-full"], var.catalogue.sslmode)
    error_message = "catalogue.sslmode is \"require\", \"verify-ca\" or \"verify-full\"."
  }
}

variable "network" {
  description = "Where the consumer runs when the catalogue is private: subnets with a way to the internet (a NAT gateway) and security groups that the catalogue lets in. Null runs it outside any VPC."
  type = object({
    subnet_ids         = list(string)
    security_group_ids = list(string)
  })
  default = null

  validation {
    condition     = var.network == null ? true : length(var.network.subnet_ids) > 0 && length(var.network.security_group_ids) > 0
    error_message = "A network needs at least one subnet and one security group."
  }
}

variable "more_secrets" {
  description = "Further secrets to make, as JOB/SETTING, such as sync-job/STATE_ENCRYPTION_KEY."
  type        = set(string)
  default     = []

  validation {
    condition     = alltrue([for secret in var.more_secrets : can(regex("^(sync-job|log-consumer)/[A-Z_]+$", secret))])
    error_message = "A secret is named by job and setting: sync-job/SETTING or log-consumer/SETTING."
  }
}

variable "existing_secrets" {
  description = "Secrets that exist, which are not made here: ARN in Secrets Manager by JOB/SETTING. `#KEY` behind the ARN takes one key out of a JSON object."
  type        = map(string)
  default     = {}

  validation {
    condition     = alltrue([for secret in keys(var.existing_secrets) : can(regex("^(sync-job|log-consumer)/[A-Z_]+$", secret))])
    error_message = "A secret is named by job and setting: sync-job/SETTING or log-consumer/SETTING."
  }
  validation {
    condition     = alltrue([for arn in values(var.existing_secrets) : can(regex("^arn:[^:]+:secretsmanager:", arn))])
    error_message = "A secret that exists is given by its ARN in Secrets Manager."
  }
}

variable "secret_values" {
  description = "Values of secrets that are made here, by JOB/SETTING; they are in neither plan nor state. Only those are written that `secret_versions` names."
  type        = map(string)
  default     = {}
  ephemeral   = true
  sensitive   = true

  validation {
    condition     = alltrue([for value in values(var.secret_values) : trimspace(value) != ""])
    error_message = "A secret's value is empty."
  }
}

variable "secret_versions" {
  description = "Which values of `secret_values` are written: a number by JOB/SETTING. Another number writes the value again. Secrets that are not named here are filled by other means."
  type        = map(number)
  default     = {}

  validation {
    condition     = alltrue([for secret in keys(var.secret_versions) : contains(local.made_secrets, secret)])
    error_message = "secret_versions names a secret that is not made here."
  }
  validation {
    condition     = alltrue([for secret in keys(var.secret_versions) : contains(keys(var.secret_values), secret)])
    error_message = "secret_versions names a secret without a value: give it in secret_values, at each apply, for nothing keeps it."
  }
}

variable "bucket_name" {
  description = "The bucket for states, the lake, the lease and the functions' zips; null names it by account and region."
  type        = string
  default     = null

  validation {
    condition     = var.bucket_name == null ? true : can(regex("^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$", var.bucket_name))
    error_message = "A bucket's name is 3 to 63 lower-case letters, digits, hyphens and dots."
  }
}

variable "noncurrent_days" {
  description = "How long the bucket keeps objects that were overwritten or deleted. What is erased from the lake on request is gone only then."
  type        = number
  default     = 30

  validation {
    condition     = var.noncurrent_days >= 1 && var.noncurrent_days <= 365
    error_message = "noncurrent_days is 1 to 365."
  }
}

variable "kms_key_arn" {
  description = "A key of your own for bucket, secrets, log groups, dead letters, environment and notifications; null uses what AWS manages. Its policy has to let logs, SNS, CloudWatch and the scheduler use it."
  type        = string
  default     = null

  validation {
    condition     = var.kms_key_arn == null ? true : can(regex("^arn:[^:]+:kms:", var.kms_key_arn)) && !strcontains(var.kms_key_arn, ":alias/")
    error_message = "A key is given by its ARN, not by an alias."
  }
}

variable "log_retention_days" {
  description = "How long the functions' logs are kept."
  type        = number
  default     = 30

  validation {
    condition     = contains([1, 3, 5, 7, 14, 30, 60, 90, 120, 150, 180, 365, 400, 545, 731], var.log_retention_days)
    error_message = "CloudWatch keeps logs for 1, 3, 5, 7, 14, 30, 60, 90, 120, 150, 180, 365, 400, 545 or 731 days."
  }
}

variable "log_level" {
  description = "The setting LOG_LEVEL of both jobs."
  type        = string
  default     = "info"

  validation {
    condition     = contains(["debug", "info", "warning", "error"], var.log_level)
    error_message = "The log level is debug, info, warning or error."
  }
}

variable "is_enabled" {
  description = "Whether the schedules run. Off, nothing is called; what is live at Cloudflare goes on."
  type        = bool
  default     = true
}

variable "alarm_emails" {
  description = "Who is told by e-mail. AWS asks each of them to confirm."
  type        = set(string)
  default     = []

  validation {
    condition     = alltrue([for address in var.alarm_emails : can(regex("^[^@ ]+@[^@ ]+[.][^@ ]+$", address))])
    error_message = "alarm_emails holds something that is no e-mail address."
  }
}

variable "alarms" {
  description = "When alarms go off: no run confirmed the live state for `unconfirmed_minutes`; `failed_runs` runs in a row failed; the backlog grew through `backlog_minutes` and holds `backlog_messages`, or nobody said what it holds; `delivery_gap_messages` messages are missing."
  type = object({
    unconfirmed_minutes   = optional(number, 15)
    failed_runs           = optional(number, 3)
    backlog_minutes       = optional(number, 30)
    backlog_messages      = optional(number, 10000)
    delivery_gap_messages = optional(number, 1)
  })
  default = {}

  validation {
    condition     = alltrue([for threshold in values(var.alarms) : threshold >= 1 && floor(threshold) == threshold])
    error_message = "Thresholds are whole numbers from 1."
  }
  validation {
    condition     = max(var.alarms.unconfirmed_minutes, var.alarms.backlog_minutes, var.alarms.failed_runs * max(var.sync.schedule_minutes, var.consumer.schedule_minutes)) <= 1440
    error_message = "CloudWatch looks back one day: unconfirmed_minutes, backlog_minutes, and failed_runs times the schedule are up to 1440 minutes."
  }
  validation {
    condition     = var.alarms.unconfirmed_minutes > var.sync.schedule_minutes && var.alarms.backlog_minutes >= 2 * var.consumer.schedule_minutes
    error_message = "An alarm cannot look at less time than passes between runs: unconfirmed_minutes is above sync.schedule_minutes, backlog_minutes at least twice consumer.schedule_minutes."
  }
}
