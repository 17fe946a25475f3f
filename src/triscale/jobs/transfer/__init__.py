"""The transfer table: several sources on several data sets (Tan & Le 2019, Table 5)."""
