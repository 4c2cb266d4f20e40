library(testthat)
library(patina)

test_check("patina")
