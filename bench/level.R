# Are the default's p-values uniform where position means nothing?
#
# Real tissues whose spots change places at random, tested as by default. P(p <= a) / a by a gene's total count, with
# its standard error over permutations.
#
#   Rscript bench/level.R [permutations]
#
# prints the table and writes bench/results/level.csv. The same on every run; `permutations` (30) for each tissue. Two
# seconds of one core for each.
library(patina)

arguments <- commandArgs(trailingOnly = TRUE)
n_permutations <- if (length(arguments) > 0L) as.integer(arguments[[1L]]) else 30L
script <- sub("^--file=", "", grep("^--file=", commandArgs(), value = TRUE))
levels <- c(0.05, 0.01, 0.001)
strata <- c(3, 10, 50, 200, Inf)
names <- c("3-9", "10-49", "50-199", "200+")

# Shares of p-values at most each level, by stratum and over all: strata x levels.
shares <- function(pval, stratum) {
  below <- outer(pval, levels, "<=")
  rbind(rowsum(below + 0, stratum) / as.vector(table(stratum)), colMeans(below))
}

rows <- lapply(c("mob", "breast_cancer"), function(name) {
  tissue <- load_dataset(name)
  coords <- tissue$sample_info[c("x", "y")]
  total <- Matrix::rowSums(tissue$counts)
  stratum <- cut(total[total >= 3], strata, names, right = FALSE)
  set.seed(1)
  found <- replicate(n_permutations, {
    permuted <- coords[sample(nrow(coords)), ]
    rownames(permuted) <- rownames(coords)
    results <- suppressMessages(spatial_test(tissue$counts, permuted, progress = FALSE))
    shares(results$pval[total >= 3], stratum)
  })
  mean <- apply(found, 1:2, mean)
  error <- apply(found, 1:2, stats::sd) / sqrt(n_permutations)
  ratio <- round(cbind(t(t(mean) / levels), t(t(error) / levels)), 3)
  colnames(ratio) <- c(paste0("ratio_", levels), paste0("se_", levels))
  data.frame(
    tissue = name,
    total = c(names, "3+"),
    genes = c(table(stratum), length(stratum)),
    ratio,
    row.names = NULL
  )
})
table <- do.call(rbind, rows)
print(table, row.names = FALSE)
write.csv(table, file.path(dirname(script), "results", "level.csv"), row.names = FALSE)
