module example.org/talk

go 1.23

require example.org/chat v0.0.0

require gopkg.in/validator.v2 v2.0.1 // indirect

replace example.org/chat => ./sdk
