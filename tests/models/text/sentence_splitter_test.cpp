// sentence_splitter_test.cpp: borders in prose, by hand, most of it from Austen's novels.
#include "models/text/sentence_splitter.h"

#include <string>

#include <gtest/gtest.h>

#include "models/text/text_reader.h"
#include "tests/models/text/text_fixture.h"

namespace minibert {
namespace {

/// The sentences joined by " | ".
std::string split(std::string_view text) {
  std::string joined;
  for (const std::string_view sentence : split_sentences(text)) {
    joined += (joined.empty() ? "" : " | ") + std::string(sentence);
  }
  return joined;
}

TEST(SentenceSplitter, EndsAtMarksBeforeACapital) {
  EXPECT_EQ(split("It was late. He left! Why? Nobody knew."),
            "It was late. | He left! | Why? | Nobody knew.");
  EXPECT_EQ(split("He paid 3.50 pounds. 12 were left."), "He paid 3.50 pounds. | 12 were left.");
  EXPECT_EQ(split("no mark at the end"), "no mark at the end");
  EXPECT_EQ(split("Wait... Now."), "Wait... | Now.");
  EXPECT_EQ(split("a.b.c"), "a.b.c");
}

TEST(SentenceSplitter, KeepsTitlesAndInitials) {
  EXPECT_EQ(split("Mr. Darcy met Mrs. Bennet. Dr. Grant came with Capt. Wentworth."),
            "Mr. Darcy met Mrs. Bennet. | Dr. Grant came with Capt. Wentworth.");
  EXPECT_EQ(split("Signed F. C. Weston Churchill. J. R. R. Tolkien wrote."),
            "Signed F. C. Weston Churchill. | J. R. R. Tolkien wrote.");
  EXPECT_EQ(split("It was I. She saw it."), "It was I. | She saw it.");
  EXPECT_EQ(split("St. Mark's Place, i.e. Venice, e.g. Italy."),
            "St. Mark's Place, i.e. Venice, e.g. Italy.");
  EXPECT_EQ(split("See No. 97, Vol. 2 of it. No. He went."),
            "See No. 97, Vol. 2 of it. | No. | He went.");
  EXPECT_EQ(split("Yes, sir. I will."), "Yes, sir. | I will.");
}

TEST(SentenceSplitter, KeepsSpeechWhole) {
  EXPECT_EQ(split("\"You _must_ go!\" cried she. \"But why?\" said he."),
            "\"You _must_ go!\" cried she. | \"But why?\" said he.");
  EXPECT_EQ(split("\"Is he married?\" \"Oh! Single, my dear.\""),
            "\"Is he married?\" | \"Oh! | Single, my dear.\"");
  EXPECT_EQ(split("He said (at last.) Then he went."), "He said (at last.) | Then he went.");
  EXPECT_EQ(split("\xE2\x80\x9CYes.\xE2\x80\x9D \xE2\x80\x9CNo.\xE2\x80\x9D"),
            "\xE2\x80\x9CYes.\xE2\x80\x9D | \xE2\x80\x9CNo.\xE2\x80\x9D");
}

TEST(SentenceSplitter, SplitsAtDashesBetweenSentences) {
  EXPECT_EQ(
      split("Sorrow came--a gentle sorrow--but not at all disagreeable.--Miss Taylor married."),
      "Sorrow came--a gentle sorrow--but not at all disagreeable.-- | Miss Taylor married.");
  EXPECT_EQ(split("What!--and is she gone?"), "What!--and is she gone?");
}

TEST(SentenceSplitter, KnowsOtherScripts) {
  EXPECT_EQ(split("\xE6\x98\xAF\xE3\x80\x82\xE4\xB8\x8D\xE3\x80\x82"),  // shi. bu.
            "\xE6\x98\xAF\xE3\x80\x82 | \xE4\xB8\x8D\xE3\x80\x82");
  EXPECT_EQ(split("Fin. \xC3\x89mile vint. \xC3\xA9t\xC3\xA9 fini."),  // Emile, ete with accents
            "Fin. | \xC3\x89mile vint. \xC3\xA9t\xC3\xA9 fini.");
}

// The last byte of these letters is 0xA0, which alone would be a no-break space.
TEST(SentenceSplitter, KeepsWholeCharactersAtTheEnd) {
  EXPECT_EQ(split("Je suis l\u00E0"), "Je suis l\u00E0");  // la, with a grave accent
  EXPECT_EQ(split("Il est l\u00E0! Et la\u00E0 "), "Il est l\u00E0! | Et la\u00E0");
  EXPECT_EQ(split("\u6C60\u6C60"), "\u6C60\u6C60");
  EXPECT_EQ(split("\u0BA0\u0420"), "\u0BA0\u0420");     // a Cyrillic Er
  EXPECT_EQ(split("\u00A0Fin\u00A0\u3000 \t"), "Fin");  // blanks go at both ends
}

TEST(SentenceSplitter, DropsOrJoinsTextWithoutWords) {
  EXPECT_EQ(split(""), "");
  EXPECT_EQ(split("  \t"), "");
  EXPECT_EQ(split("* * * * *"), "");
  EXPECT_EQ(split("... Then."), "... Then.");
  EXPECT_EQ(split("He went. . . . 4"), "He went. . . . | 4");
  EXPECT_EQ(split("  trimmed.  "), "trimmed.");
}

// For any text: only blanks are lost, the order is kept, no sentence is empty.
TEST(SentenceSplitter, LosesNothingOnRealProse) {
  LineReader reader((testing::source_folder() / "data/austen/prideprejudice.txt.gz").string());
  std::string line, paragraph;
  const auto without_blanks = [](std::string_view text) {
    std::string kept;
    for (const char c : text) {
      if (c != ' ') kept += c;
    }
    return kept;
  };
  int sentences = 0, paragraphs = 0;
  while (reader.next(line)) {
    if (!line.empty()) {
      paragraph += (paragraph.empty() ? "" : " ") + line;
      continue;
    }
    std::string joined;
    for (const std::string_view sentence : split_sentences(paragraph)) {
      EXPECT_FALSE(sentence.empty());
      joined += sentence;
      ++sentences;
    }
    if (!joined.empty()) {
      EXPECT_EQ(without_blanks(joined), without_blanks(paragraph));
    }
    paragraph.clear();
    ++paragraphs;
  }
  EXPECT_GT(paragraphs, 2000);
  EXPECT_GT(sentences, 2 * paragraphs / 3);
}

}  // namespace
}  // namespace minibert
