def text(spark, config): return ""
