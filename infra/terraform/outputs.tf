output "function_names" {
  description = "The functions by job, to call one by hand or to put a function URL before it."
  value       = module.aws.function_names
}

output "secret_names" {
  description = "The secrets that were made here, by JOB/SETTING. Those that `secret_versions` does not name wait for a value."
  value       = module.aws.secret_names
}

output "bucket_name" {
  description = "The bucket of states and lake."
  value       = module.aws.bucket_name
}

output "lake_data_path" {
  description = "Where the lake's Parquet files are."
  value       = module.aws.lake_data_path
}

output "alarm_topic_arn" {
  description = "The topic that alarms are sent to."
  value       = module.aws.alarm_topic_arn
}

output "dashboard_name" {
  description = "The dashboard in CloudWatch."
  value       = module.aws.dashboard_name
}

output "queue_name" {
  description = "The flag-logs queue, whoever makes it."
  value       = module.cloudflare.queue_name
}
