# What one looks at first: are the flags current, do the runs go well, does the log arrive.

locals {
  sync_dimension     = flatten([for name, value in local.metrics.dimensions["sync-job"] : [name, value]])
  consumer_dimension = flatten([for name, value in local.metrics.dimensions["log-consumer"] : [name, value]])

  widgets = concat(
    [
      {
        title = "Runs of sync-job"
        stat  = "Sum"
        metrics = [for metric in concat(local.metrics.confirmed, ["run_held"]) :
          concat([local.metrics.namespace, metric], local.sync_dimension)
        ]
      },
      {
        title   = "Duration of a run (s)"
        stat    = "Maximum"
        metrics = [concat([local.metrics.namespace, "run_duration"], local.sync_dimension)]
      },
      {
        title   = "Since the flags changed last (s)"
        stat    = "Maximum"
        metrics = [concat([local.metrics.namespace, "state_age"], local.sync_dimension)]
      },
      {
        title   = "Failed runs"
        stat    = "Sum"
        metrics = [for job in local.jobs : ["AWS/Lambda", "Errors", "FunctionName", local.function[job]]]
      },
    ],
    [
      for title, metric in {
        "Messages in the queue"  = local.metrics.backlog
        "Rejected messages"      = local.metrics.rejected
        "Dead letters"           = local.metrics.dead
        "Messages never arrived" = local.metrics.missing
        } : {
        title   = title
        stat    = "Maximum"
        metrics = [concat([local.metrics.namespace, metric], local.consumer_dimension)]
      } if local.has_consumer
    ],
  )
}

resource "aws_cloudwatch_dashboard" "overview" {
  dashboard_name = var.name
  dashboard_body = jsonencode({
    widgets = [
      for index, widget in local.widgets : {
        type   = "metric"
        x      = index % 2 * 12
        y      = floor(index / 2) * 6
        width  = 12
        height = 6
        properties = {
          title   = widget.title
          view    = "timeSeries"
          region  = data.aws_region.current.region
          stat    = widget.stat
          period  = 300
          metrics = widget.metrics
        }
      }
    ]
  })
}
