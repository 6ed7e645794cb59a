# The least that is a whole system: both jobs, a Postgres that you have, secrets that are filled in by hand afterwards.
#
#     make package
#     export AWS_REGION=eu-central-1 CLOUDFLARE_API_TOKEN=…
#     terraform -chdir=infra/terraform/examples/minimal init
#     terraform -chdir=infra/terraform/examples/minimal apply

terraform {
  required_version = ">= 1.11"

  required_providers {
    aws = {
      source  = "hashicorp/aws"
      version = ">= 6.0, < 7"
    }
    cloudflare = {
      source  = "cloudflare/cloudflare"
      version = ">= 5.14, < 6"
    }
  }
}

variable "cloudflare_account_id" {
  description = "The Cloudflare account that the Worker runs in."
  type        = string
}

variable "catalogue" {
  description = "A Postgres database that the consumer reaches over the internet with TLS: host, database, user."
  type = object({
    host     = string
    database = string
    user     = string
  })
}

variable "packages" {
  description = "The functions' zips."
  type = object({
    sync_job     = string
    log_consumer = string
  })
  default = {
    sync_job     = "../../../../dist/sync-job-arm64.zip"
    log_consumer = "../../../../dist/log-consumer-arm64.zip"
  }
}

module "flagedge" {
  source = "../.."

  cloudflare_account_id = var.cloudflare_account_id
  packages              = var.packages
  catalogue             = var.catalogue
}

output "secrets_to_fill" {
  description = "Put a value into each of them: aws secretsmanager put-secret-value --secret-id NAME --secret-string VALUE"
  value       = values(module.flagedge.secret_names)
}
