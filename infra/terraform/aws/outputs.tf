output "function_names" {
  description = "The functions by job, to call one by hand or to put a function URL before it."
  value       = { for job, function in aws_lambda_function.job : job => function.function_name }
}

output "function_role_arns" {
  description = "The functions' roles by job, for policies elsewhere, such as that of a key."
  value       = { for job, role in aws_iam_role.job : job => role.arn }
}

output "secret_names" {
  description = "The secrets that were made here, by JOB/SETTING. Those that `secret_versions` does not name wait for a value."
  value       = { for secret, made in aws_secretsmanager_secret.setting : secret => made.name }
}

output "bucket_name" {
  description = "The bucket of states and lake."
  value       = aws_s3_bucket.data.bucket
}

output "lake_data_path" {
  description = "Where the lake's Parquet files are."
  value       = "s3://${aws_s3_bucket.data.bucket}/${local.prefixes.lake}/"
}

output "alarm_topic_arn" {
  description = "The topic that alarms are sent to."
  value       = aws_sns_topic.alarms.arn
}

output "dashboard_name" {
  description = "The dashboard in CloudWatch."
  value       = aws_cloudwatch_dashboard.overview.dashboard_name
}
